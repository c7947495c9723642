import { addCredit } from '../accounts/credits.js';
import { LedgerError } from '../errors.js';
import type { Register } from './context.js';
import { withDatabase } from './database.js';

export const registerCredit: Register = (program, run) => {
  program
    .command('credit')
    .description('top up a user or an organization')
    .command('add <usd>')
    .description('add credit, in USD')
    .option('--user <id>')
    .option('--org <id>')
    .action((usd: string, options: { user?: string; org?: string }) =>
      run((context) => {
        const { user, org } = options;
        if ((user === undefined) === (org === undefined)) {
          throw new LedgerError('invalid_request', 'name one payer: --user <id> or --org <id>');
        }
        return withDatabase(context, async (database) => {
          const payer = user === undefined ? { organization_id: org } : { kilo_user_id: user };
          const credit = await addCredit(database.pool(), { ...payer, usd });
          context.output.answer(credit, `added ${usd} USD to ${user ?? org}`);
          return 0;
        });
      }),
    );
};
