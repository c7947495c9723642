import { softDeleteUser } from '../accounts/softDelete.js';
import { createUser } from '../accounts/users.js';
import type { Register } from './context.js';
import { withDatabase } from './database.js';

export const registerUser: Register = (program, run) => {
  const user = program.command('user').description('create and delete users');
  user
    .command('create <id>')
    .description('create a user')
    .option('--email <email>')
    .option('--name <name>')
    .action((id: string, options: { email?: string; name?: string }) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const row = await createUser(database.pool(), { id, ...options });
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
          const result = await softDeleteUser(database.pool(), id);
          context.output.answer(
            { id, deleted: true, ...(result ?? {}) },
            `deleted user ${id}: personal data scrubbed, keys revoked, usage kept`,
          );
          return 0;
        }),
      ),
    );
};
