import type pg from 'pg';
import { invalidField, readText, unknownOrganization, unknownUser } from '../accounts/fields.js';
import { runStatement } from '../accounts/runStatement.js';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { parseInstant } from '../instant.js';
import { toMicrodollars } from '../money.js';
import {
  BUDGET_PERIODS,
  BUDGET_SCOPES,
  type BudgetPeriod,
  type BudgetScope,
} from '../schema/budgets.js';
import { type BudgetKey, FIND_KEY, FIND_PAYER, type TargetRow } from './budgets.sql.js';

export interface NewBudget {
  scope: string;
  /** Of the user, organization, member (a user), key or project. */
  id: string;
  /** USD, 0 or more; rounded once to the microdollar. */
  limit_usd: string | number;
  window: string;
  /** IANA name; default UTC. */
  time_zone?: string | null | undefined;
  /** A soft one is counted and shown, and refuses nothing. */
  mode?: string | null | undefined;
  /** Who pays for a project; of a member the organization. */
  kilo_user_id?: string | null | undefined;
  organization_id?: string | null | undefined;
  created_by?: string | null | undefined;
}

export interface BudgetChange {
  limit_usd?: string | number | null | undefined;
  mode?: string | null | undefined;
  /** Added to the limit until then. */
  raise_usd?: string | number | null | undefined;
  /** ISO 8601 with offset, in the future. */
  raise_until?: string | null | undefined;
}

export interface ValidBudget {
  key: BudgetKey;
  timeZone: string;
  limitMicrodollars: number;
  isHard: boolean;
  createdBy: string | null;
}

/** A limit beyond a billion dollars is a mistake. */
const MAX_LIMIT = 1_000_000_000_000_000;

/** @throws LedgerError naming the field; see `setBudget` */
export async function readNewBudget(pool: pg.Pool, budget: NewBudget): Promise<ValidBudget> {
  const scope = readOneOf('scope', budget.scope, BUDGET_SCOPES);
  const period = readOneOf('window', budget.window, BUDGET_PERIODS);
  const valid = {
    timeZone: await readTimeZone(pool, budget.time_zone ?? 'UTC'),
    limitMicrodollars: readLimit('limit_usd', budget.limit_usd),
    isHard: readMode(budget.mode ?? 'hard'),
    createdBy: budget.created_by ?? null,
  };
  return { key: await findSubject(pool, scope, period, budget), ...valid };
}

/** @throws LedgerError `invalid_request` naming the field */
export function readChange(change: BudgetChange) {
  const { limit_usd: limit, mode, raise_usd: raise, raise_until: until } = change;
  const has = (value: unknown) => value !== undefined && value !== null;
  if (has(raise) !== has(until)) {
    throw invalidField('raise_until', 'and raise_usd belong together: give both');
  }
  if (!has(limit) && !has(mode) && !has(raise)) {
    throw invalidField(
      'limit_usd',
      'or mode, or raise_usd with raise_until: there is nothing to change',
    );
  }
  return {
    limitMicrodollars: has(limit) ? readLimit('limit_usd', limit as string) : null,
    isHard: has(mode) ? readMode(mode as string) : null,
    raiseMicrodollars: has(raise) ? readLimit('raise_usd', raise as string) : null,
    raiseUntil: has(until) ? readFuture('raise_until', until as string) : null,
  };
}

async function findSubject(
  pool: pg.Pool,
  scope: BudgetScope,
  period: BudgetPeriod,
  budget: NewBudget,
): Promise<BudgetKey> {
  const isUuid = scope === 'organization' || scope === 'key';
  const id = isUuid ? readUuid('id', budget.id) : readText('id', budget.id, 512);
  const user = budget.kilo_user_id ?? null;
  const organization =
    (budget.organization_id ?? null) === null
      ? null
      : readUuid('organization_id', budget.organization_id as string);
  const none = { scope, period, kiloUserId: null, apiKeyId: null, projectId: null };
  switch (scope) {
    case 'user':
      await checkPayer(pool, id, null, { user: 'id' });
      return { ...none, payerScope: 'user', payerId: id };
    case 'organization':
      await checkPayer(pool, null, id, { organization: 'id' });
      return { ...none, payerScope: 'organization', payerId: id };
    case 'member':
      if (organization === null) throw invalidField('organization_id', 'names whose member it is');
      await checkPayer(pool, id, organization, { user: 'id' }, true);
      return { ...none, payerScope: 'organization', payerId: organization, kiloUserId: id };
    case 'key':
      return { ...none, ...(await findKeyPayer(pool, id)), apiKeyId: id };
    case 'project': {
      if ((user === null) === (organization === null)) {
        throw invalidField('kilo_user_id', 'or organization_id: name who pays for the project');
      }
      await checkPayer(pool, user, organization, {});
      return organization === null
        ? { ...none, payerScope: 'user', payerId: user ?? '', projectId: id }
        : { ...none, payerScope: 'organization', payerId: organization, projectId: id };
    }
  }
}

async function findKeyPayer(pool: pg.Pool, id: string) {
  const [key] = await runStatement<TargetRow>(pool, FIND_KEY, [id]);
  if (!key) {
    throw new LedgerError('not_found', 'id names no key that is in use', {
      details: { field: 'id' },
    });
  }
  const payerId = key.organization_id ?? key.kilo_user_id;
  if (payerId === null) {
    throw invalidField('id', 'names a service key, which pays for nobody of its own');
  }
  return { payerScope: key.organization_id === null ? 'user' : 'organization', payerId } as const;
}

export async function checkPayer(
  pool: pg.Pool,
  user: string | null,
  organization: string | null,
  fields: { user?: 'id'; organization?: 'id' },
  isMember = false,
): Promise<void> {
  const [row] = await runStatement<Record<'is_user' | 'is_organization' | 'is_member', boolean>>(
    pool,
    FIND_PAYER,
    [user, organization, isMember],
  );
  if (!row?.is_user) throw unknownUser(fields.user);
  if (!row.is_organization) throw unknownOrganization(fields.organization);
  if (!row.is_member) throw invalidField('id', 'names no member of the organization');
}

export function readOneOf<T extends string>(
  field: string,
  value: unknown,
  allowed: readonly T[],
): T {
  const found = allowed.find((each) => each === value);
  if (found !== undefined) return found;
  throw invalidField(field, `must be one of ${allowed.join(', ')}`);
}

function readMode(mode: string): boolean {
  return readOneOf('mode', mode, ['hard', 'soft'] as const) === 'hard';
}

/** USD to microdollars; 0 is a limit: nothing may be spent. */
export function readLimit(field: string, usd: string | number): number {
  let limit: number;
  try {
    limit = toMicrodollars(usd);
  } catch (cause) {
    throw new LedgerError('invalid_request', `${field} must be an amount in USD, like 12.50`, {
      details: { field },
      cause,
    });
  }
  // Also what rounds to zero.
  if (limit < 0 || /^\s*-/.test(String(usd))) throw invalidField(field, 'must not be negative');
  if (limit > MAX_LIMIT) throw invalidField(field, 'must be at most a billion USD');
  return limit;
}

/**
 * An IANA name that the server knows: one that it does not would fail every fold of the payer. No
 * offsets, which have no daylight saving time.
 */
async function readTimeZone(pool: pg.Pool, zone: string): Promise<string> {
  readText('time_zone', zone, 64);
  const [row] = await runStatement(
    pool,
    `/* budgets.findTimeZone */ select name from pg_timezone_names where name = $1::text`,
    [zone],
  );
  if (row) return zone;
  throw invalidField('time_zone', 'must be an IANA time zone, like Europe/Berlin');
}

function readFuture(field: string, value: string): string {
  const instant = parseInstant(value);
  if (instant === null) {
    throw invalidField(
      field,
      'must be an ISO 8601 instant with an offset, like 2026-11-22T10:00:00Z',
    );
  }
  if (instant.epochMs <= Date.now()) throw invalidField(field, 'lies in the past');
  return instant.text;
}
