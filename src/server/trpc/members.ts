import { z } from 'zod';
import { listMembers } from '../../accounts/listAccounts.js';
import { noOwner, removeOrganizationMember, setMemberRole } from '../../accounts/memberships.js';
import type { Scope } from '../../accounts/scopes.js';
import { addMember } from '../../shards/accounts.js';
import { checkNoMore, checkOwner } from '../access.js';
import type { Principal } from '../auth.js';
import { leaveOrganization } from '../leaveOrganization.js';
import { inputOf, uuid } from '../validation.js';
import { procedureFor, router } from './procedure.js';

/** What members' keys may do with the organization's money: who makes members could do so too. */
const SPENDING: readonly Scope[] = ['usage:write', 'gateway'];

const kilo_user_id = z.string();
const listInput = z.strictObject({ organization_id: uuid, after: z.string().nullish() });
const memberInput = z.strictObject({ organization_id: uuid, kilo_user_id });
const leaveInput = z.strictObject({ organization_id: uuid });
const roleInput = z.strictObject({ organization_id: uuid, kilo_user_id, role: z.string() });

const list = procedureFor(
  'usage:read',
  'Members by id with their roles, for an owner of the organization: a page, and ' +
    'whether there are more.',
)
  .input(inputOf(listInput))
  .query(async ({ ctx, input }) => {
    const { organization_id: id, after } = input;
    await checkOwner(ctx.ledger, ctx.principal, id, 'reads its members');
    const { rows, has_more } = await ctx.ledger.ask({ organization_id: id }, ({ pool }) =>
      listMembers(pool, id, after ?? undefined),
    );
    return { members: rows, has_more };
  });

const add = procedureFor(
  'usage:read',
  'Adds a member: an owner of the organization, with a key that has `usage:write` and ' +
    '`gateway`; or `admin`.',
)
  .input(inputOf(roleInput))
  .mutation(async ({ ctx, input }) => {
    const by = changer(ctx.principal);
    return addMember(ctx.ledger, input.organization_id, input.kilo_user_id, input.role, by);
  });

const setRole = procedureFor(
  'usage:read',
  "Changes a member's role, as `members.add`. Of owners one stays, unless `admin` changes it.",
)
  .input(inputOf(roleInput))
  .mutation(async ({ ctx, input: { organization_id, kilo_user_id: user, role } }) => {
    const by = changer(ctx.principal);
    return ctx.ledger.at({ organization_id }, ({ pool }) =>
      setMemberRole(pool, organization_id, user, role, by),
    );
  });

const remove = procedureFor(
  'usage:read',
  "Removes a member, as `members.add`. What they used stays the organization's.",
)
  .input(inputOf(memberInput))
  .mutation(async ({ ctx, input }) => {
    const by = changer(ctx.principal);
    const { organization_id, kilo_user_id: user } = input;
    await ctx.ledger.at({ organization_id }, ({ pool }) =>
      removeOrganizationMember(pool, organization_id, user, by),
    );
    return { ...input, removed: true };
  });

/** Out of an organization by oneself; its last owner stays. */
const leave = procedureFor('usage:read', 'Ends the own membership; an organization keeps an owner.')
  .input(inputOf(leaveInput))
  .mutation(({ ctx, input }) =>
    leaveOrganization(ctx.ledger, ctx.principal, input.organization_id),
  );

/**
 * Who changes members: administrators, and users whose key may spend. That they own the organization is
 * found where it is changed.
 * @throws LedgerError `forbidden`
 */
function changer(principal: Principal): { by?: string } {
  if (principal.scopes.has('admin')) return {};
  if (principal.kiloUserId === null) throw noOwner('changes its members');
  checkNoMore(principal, SPENDING);
  return { by: principal.kiloUserId };
}

/** For the page: an owner sees, adds and removes the organization's members; a member leaves. */
export const membersRouter = router({ list, add, setRole, remove, leave });
