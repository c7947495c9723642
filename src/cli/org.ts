import { addOrganizationMember, createOrganization } from '../accounts/organizations.js';
import type { Register } from './context.js';
import { withDatabase } from './database.js';

export const registerOrg: Register = (program, run) => {
  const org = program.command('org').description('create organizations, add members');
  org
    .command('create <name>')
    .description('create an organization; prints its id')
    .option('--id <uuid>', 'its id, instead of a new one')
    .action((name: string, options: { id?: string }) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const row = await createOrganization(database.pool(), { name, ...options });
          context.output.answer(row, row.id);
          return 0;
        }),
      ),
    );
  org
    .command('add-member <org> <user>')
    .description('add a user to an organization')
    .option('--role <role>', 'owner or member; an owner reads what all members spend', 'member')
    .action((organizationId: string, userId: string, options: { role: string }) =>
      run((context) =>
        withDatabase(context, async (database) => {
          await addOrganizationMember(database.pool(), organizationId, userId, options.role);
          context.output.answer(
            { organization_id: organizationId, kilo_user_id: userId, role: options.role },
            `${userId} is a member of ${organizationId}`,
          );
          return 0;
        }),
      ),
    );
};
