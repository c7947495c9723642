import { getOrganization, listMembers, listOrganizations } from '../accounts/listAccounts.js';
import { removeOrganizationMember } from '../accounts/memberships.js';
import { formatUsd } from '../money.js';
import { addMember, createOrganization } from '../shards/accounts.js';
import type { Register } from './context.js';
import { withDatabase, withMigratedDatabase } from './database.js';
import { answerList, formatAmount, formatExpiry, formatInstant, shorten } from './output.js';

export const registerOrg: Register = (org, run) => {
  org
    .command('create <name>')
    .description('create an organization; prints its id')
    .option('--id <uuid>', 'its id, instead of a new one')
    .action((name: string, options: { id?: string }) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const row = await createOrganization(await database.accounts(), {
            name,
            ...options,
          });
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
          await addMember(await database.accounts(), organizationId, userId, options.role);
          context.output.answer(
            { organization_id: organizationId, kilo_user_id: userId, role: options.role },
            `${userId} is a member of ${organizationId}`,
          );
          return 0;
        }),
      ),
    );
  org
    .command('list')
    .description('organizations by id, with what they used and acquired, in USD')
    .option('--after <id>', 'those after this id')
    .action((options: { after?: string }) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const page = await listOrganizations(database.pool(), options.after);
          answerList(context.output, 'organizations', page, {
            head: ['id', 'name', 'members', 'used', 'acquired'],
            right: [2, 3, 4],
            cells: (row) => [
              row.id,
              shorten(row.name),
              String(row.members),
              formatUsd(row.microdollars_used),
              formatUsd(row.total_microdollars_acquired),
            ],
          });
          return 0;
        }),
      ),
    );
  org
    .command('show <org>')
    .description('one organization: balance, and how many members')
    .action((organizationId: string) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const row = await getOrganization(database.pool(), organizationId);
          const used = formatAmount(row.microdollars_used);
          const acquired = formatAmount(row.total_microdollars_acquired);
          context.output.answer(
            row,
            `${row.name}: ${used} used of ${acquired} acquired${formatExpiry(row.next_credit_expiry_at)}` +
              `; members: ${row.members}`,
          );
          return 0;
        }),
      ),
    );
  org
    .command('members <org>')
    .description('members of an organization, with their roles')
    .option('--after <user>', 'those after this id')
    .action((organizationId: string, options: { after?: string }) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const page = await listMembers(database.pool(), organizationId, options.after);
          answerList(context.output, 'members', page, {
            head: ['user', 'name', 'role', 'since'],
            cells: (row) => [
              shorten(row.kilo_user_id),
              shorten(row.name ?? ''),
              row.role,
              formatInstant(row.created_at),
            ],
          });
          return 0;
        }),
      ),
    );
  org
    .command('remove-member <org> <user>')
    .description('take a user out of an organization; usage and totals stay')
    .action((organizationId: string, userId: string) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const removed = await removeOrganizationMember(database.pool(), organizationId, userId);
          context.output.answer(
            { organization_id: organizationId, kilo_user_id: userId, removed: true, ...removed },
            `${userId} is no member of ${organizationId} any more`,
          );
          if (removed.was_last_owner) {
            context.output.note(
              'it has no owner any more; `org add-member <org> <user> --role owner` adds one',
            );
          }
          return 0;
        }),
      ),
    );
};
