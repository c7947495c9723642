import { z } from 'zod';
import { listMembers } from '../../accounts/listAccounts.js';
import { noOwner, removeOrganizationMember, setMemberRole } from '../../accounts/memberships.js';
import { addOrganizationMember } from '../../accounts/organizations.js';
import type { Scope } from '../../accounts/scopes.js';
import { checkNoMore, checkOwner } from '../access.js';
import type { Principal } from '../auth.js';
import { leaveOrganization } from '../leaveOrganization.js';
import { parseInput, uuid } from '../validation.js';
import { procedureFor, router } from './procedure.js';

/** What members' keys may do with the organization's money: who makes members could do so too. */
const SPENDING: readonly Scope[] = ['usage:write', 'gateway'];

const kilo_user_id = z.string();
const listInput = z.strictObject({ organization_id: uuid, after: z.string().nullish() });
const memberInput = z.strictObject({ organization_id: uuid, kilo_user_id });
const leaveInput = z.strictObject({ organization_id: uuid });
const roleInput = z.strictObject({ organization_id: uuid, kilo_user_id, role: z.string() });

/** Members by id, with their roles, for an owner; a page, and whether there are more. */
const list = procedureFor('usage:read')
  .input((value: unknown) => parseInput(listInput, value))
  .query(async ({ ctx, input }) => {
    const { pool } = ctx.ledger;
    await checkOwner(pool, ctx.principal, input.organization_id, 'reads its members');
    const { rows, has_more } = await listMembers(
      pool,
      input.organization_id,
      input.after ?? undefined,
    );
    return { members: rows, has_more };
  });

const add = procedureFor('usage:read')
  .input((value: unknown) => parseInput(roleInput, value))
  .mutation(async ({ ctx, input }) => {
    const { pool } = ctx.ledger;
    changer(ctx.principal);
    await checkOwner(pool, ctx.principal, input.organization_id, 'changes its members');
    return addOrganizationMember(pool, input.organization_id, input.kilo_user_id, input.role);
  });

const setRole = procedureFor('usage:read')
  .input((value: unknown) => parseInput(roleInput, value))
  .mutation(async ({ ctx, input }) =>
    setMemberRole(
      ctx.ledger.pool,
      input.organization_id,
      input.kilo_user_id,
      input.role,
      changer(ctx.principal),
    ),
  );

const remove = procedureFor('usage:read')
  .input((value: unknown) => parseInput(memberInput, value))
  .mutation(async ({ ctx, input }) => {
    const by = changer(ctx.principal);
    await removeOrganizationMember(ctx.ledger.pool, input.organization_id, input.kilo_user_id, by);
    return { ...input, removed: true };
  });

/** Out of an organization by oneself; its last owner stays. */
const leave = procedureFor('usage:read')
  .input((value: unknown) => parseInput(leaveInput, value))
  .mutation(({ ctx, input }) =>
    leaveOrganization(ctx.ledger.pool, ctx.principal, input.organization_id),
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
