import { addCredit } from '../accounts/credits.js';
import { listCredits } from '../accounts/listAccounts.js';
import { LedgerError } from '../errors.js';
import { formatUsd } from '../money.js';
import type { Register } from './context.js';
import { withDatabase } from './database.js';
import { answerList } from './output.js';

interface AddOptions {
  user?: string;
  org?: string;
  id?: string;
  note?: string;
}

export const registerCredit: Register = (program, run) => {
  const credit = program.command('credit').description('top up a user or an organization');
  credit
    .command('add <usd>')
    .description('add credit, in USD; a negative amount takes back')
    .option('--user <id>', 'this user')
    .option('--org <id>', 'or this organization')
    .option('--id <uuid>', 'name this credit: the same id again is added once')
    .option('--note <text>', 'why')
    .action((usd: string, options: AddOptions) =>
      run((context) => {
        const { user, org, id, note } = options;
        if ((user === undefined) === (org === undefined)) {
          throw new LedgerError('invalid_request', 'name one payer: --user <id> or --org <id>');
        }
        return withDatabase(context, async (database) => {
          const payer = user === undefined ? { organization_id: org } : { kilo_user_id: user };
          const credit = await addCredit(database.pool(), { ...payer, usd, id, description: note });
          // What was added: the argument may have been rounded.
          const amount = formatUsd(credit.amount_microdollars);
          const total = formatUsd(credit.total_microdollars_acquired);
          const said = credit.status === 'duplicate' ? 'added before:' : 'added';
          context.output.answer(
            credit,
            `${said} ${amount} USD to ${user ?? org}; ${total} USD in all`,
          );
          return 0;
        });
      }),
    );
  credit
    .command('list')
    .description('top-ups, newest first, in USD')
    .option('--user <id>', 'of this user')
    .option('--org <id>', 'or of this organization')
    .action(({ user, org }: { user?: string; org?: string }) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const page = await listCredits(database.pool(), {
            kilo_user_id: user,
            organization_id: org,
          });
          answerList(context.output, 'credits', page, {
            head: ['id', 'at', 'payer', 'usd', 'note'],
            right: [3],
            cells: (row) => [
              row.id,
              row.created_at,
              row.kilo_user_id ?? row.organization_id ?? '',
              formatUsd(row.amount_microdollars),
              row.description ?? '',
            ],
          });
          return 0;
        }),
      ),
    );
};
