import { getUser, listUsers } from '../accounts/listAccounts.js';
import { formatUsd } from '../money.js';
import { createUser, softDeleteUser } from '../shards/accounts.js';
import type { Register } from './context.js';
import { withDatabase, withMigratedDatabase } from './database.js';
import { answerList, formatAmount, formatExpiry, formatInstant, shorten } from './output.js';

export const registerUser: Register = (user, run) => {
  user
    .command('create <id>')
    .description('create a user')
    .option('--email <email>', 'how to reach them')
    .option('--name <name>', 'what to call them')
    .action((id: string, options: { email?: string; name?: string }) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const row = await createUser(await database.accounts(), { id, ...options });
          context.output.answer(row, `created user ${id}`);
          return 0;
        }),
      ),
    );
  user
    .command('delete <id>')
    .description('soft delete: scrub personal data, revoke keys, keep usage and totals')
    .action((id: string) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const result = await softDeleteUser(await database.accounts(), id);
          context.output.answer(
            { id, deleted: true, ...(result ?? {}) },
            `deleted user ${id}: personal data scrubbed, keys revoked, usage kept`,
          );
          return 0;
        }),
      ),
    );
  user
    .command('list')
    .description('users by id, with what they used and acquired, in USD')
    .option('--after <id>', 'those after this id')
    .action((options: { after?: string }) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const page = await listUsers(database.pool(), options.after);
          answerList(context.output, 'users', page, {
            head: ['id', 'name', 'used', 'acquired', 'state'],
            right: [2, 3],
            cells: (row) => [
              shorten(row.id),
              shorten(row.name ?? ''),
              formatUsd(row.microdollars_used),
              formatUsd(row.total_microdollars_acquired),
              row.deleted_at === null ? '' : 'deleted',
            ],
          });
          return 0;
        }),
      ),
    );
  user
    .command('show <id>')
    .description('one user: balance, and whether deleted')
    .action((id: string) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const row = await getUser(database.pool(), id);
          const used = formatAmount(row.microdollars_used);
          const acquired = formatAmount(row.total_microdollars_acquired);
          const state = row.deleted_at === null ? '' : `; deleted ${formatInstant(row.deleted_at)}`;
          const expiry = formatExpiry(row.next_credit_expiry_at);
          context.output.answer(
            row,
            `${row.id}: ${used} used of ${acquired} acquired${expiry}${state}`,
          );
          return 0;
        }),
      ),
    );
};
