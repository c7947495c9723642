import { addCredit } from '../accounts/credits.js';
import { LedgerError } from '../errors.js';
import { formatUsd } from '../money.js';
import type { Register } from './context.js';
import { withDatabase } from './database.js';

export const registerCredit: Register = (program, run) => {
  program
    .command('credit')
    .description('top up a user or an organization')
    .command('add <usd>')
    .description('add credit, in USD; a negative amount takes back')
    .option('--user <id>', 'this user')
    .option('--org <id>', 'or this organization')
    .action((usd: string, options: { user?: string; org?: string }) =>
      run((context) => {
        const { user, org } = options;
        if ((user === undefined) === (org === undefined)) {
          throw new LedgerError('invalid_request', 'name one payer: --user <id> or --org <id>');
        }
        return withDatabase(context, async (database) => {
          const payer = user === undefined ? { organization_id: org } : { kilo_user_id: user };
          const credit = await addCredit(database.pool(), { ...payer, usd });
          // What was added: the argument may have been rounded.
          const amount = formatUsd(credit.amount_microdollars);
          const total = formatUsd(credit.total_microdollars_acquired);
          context.output.answer(
            credit,
            `added ${amount} USD to ${user ?? org}; ${total} USD in all`,
          );
          return 0;
        });
      }),
    );
};
