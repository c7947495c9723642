import type pg from 'pg';
import {
  invalidField,
  readInstant,
  readText,
  unknownOrganization,
  unknownUser,
  writtenMicrodollars,
} from '../accounts/fields.js';
import { runStatement } from '../accounts/runStatement.js';
import { elsewhere, LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import {
  BUDGET_PERIODS,
  BUDGET_SCOPES,
  type BudgetPeriod,
  type BudgetScope,
} from '../schema/budgets.js';
import { type BudgetKey, FIND_KEY, FIND_PAYER, type TargetRow } from './budgets.sql.js';

/** A soft one is counted and shown, and refuses nothing. */
export const BUDGET_MODES = ['hard', 'soft'] as const;

export interface NewBudget {
  scope: string;
  /** Of the user, organization, member (a user), key or project. */
  id: string;
  /** USD, 0 or more; rounded once to the microdollar. */
  limit_usd: string | number;
  window: string;
  /** IANA name; default that of the budget as it is, of a new one UTC. */
  time_zone?: string | null | undefined;
  /** Of `BUDGET_MODES`; default as it is, of a new one `hard`. */
  mode?: string | null | undefined;
  /** Who pays for a project; of a member the organization. */
  kilo_user_id?: string | null | undefined;
  organization_id?: string | null | undefined;
  created_by?: string | null | undefined;
}

export interface BudgetChange {
  limit_usd?: string | number | null | undefined;
  mode?: string | null | undefined;
  /** Added to the limit until then; 0, which needs no end, ends a raise. */
  raise_usd?: string | number | null | undefined;
  /** ISO 8601 with offset, in the future. */
  raise_until?: string | null | undefined;
}

export interface ValidBudget {
  key: BudgetKey;
  /** Whose usage alone it counts; null of several. */
  onlyUser: string | null;
  /** Null: as it is. */
  timeZone: string | null;
  limitMicrodollars: number;
  /** Null: as it is. */
  isHard: boolean | null;
  createdBy: string | null;
}

/** A limit beyond a billion dollars is a mistake. */
const MAX_LIMIT = 1_000_000_000_000_000;

/** @throws LedgerError naming the field; see `setBudget` */
export async function readNewBudget(pool: pg.Pool, budget: NewBudget): Promise<ValidBudget> {
  const scope = readOneOf('scope', budget.scope, BUDGET_SCOPES);
  const period = readOneOf('window', budget.window, BUDGET_PERIODS);
  const { time_zone: zone, mode } = budget;
  const valid = {
    timeZone: zone === undefined || zone === null ? null : await readTimeZone(pool, zone),
    limitMicrodollars: readLimit('limit_usd', budget.limit_usd),
    isHard: mode === undefined || mode === null ? null : readMode(mode),
    createdBy: budget.created_by ?? null,
  };
  return { ...(await findSubject(pool, scope, period, budget)), ...valid };
}

/** @throws LedgerError `invalid_request` naming the field */
export function readChange(change: BudgetChange) {
  const { limit_usd: limit, mode, raise_usd: raise, raise_until: until } = change;
  const has = (value: unknown) => value !== undefined && value !== null;
  const raiseMicrodollars = has(raise) ? readLimit('raise_usd', raise as string) : null;
  if (has(until) && !has(raise)) {
    throw invalidField('raise_usd', 'says by how much the limit is raised until raise_until');
  }
  if (has(raise) && !has(until) && raiseMicrodollars !== 0) {
    throw invalidField('raise_until', 'says when the raise ends; only a raise by 0 has no end');
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
    raiseMicrodollars,
    raiseUntil: has(until) ? readFuture('raise_until', until as string) : null,
  };
}

async function findSubject(
  pool: pg.Pool,
  scope: BudgetScope,
  period: BudgetPeriod,
  budget: NewBudget,
): Promise<Pick<ValidBudget, 'key' | 'onlyUser'>> {
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
      return { key: { ...none, payerScope: 'user', payerId: id }, onlyUser: id };
    case 'organization':
      await checkPayer(pool, null, id, { organization: 'id' });
      return { key: { ...none, payerScope: 'organization', payerId: id }, onlyUser: null };
    case 'member':
      if (organization === null) throw invalidField('organization_id', 'names whose member it is');
      await checkPayer(pool, id, organization, { user: 'id' }, true);
      return {
        key: { ...none, payerScope: 'organization', payerId: organization, kiloUserId: id },
        onlyUser: id,
      };
    case 'key': {
      const { onlyUser, ...payer } = await findKeyPayer(pool, id);
      return { key: { ...none, ...payer, apiKeyId: id }, onlyUser };
    }
    case 'project': {
      if ((user === null) === (organization === null)) {
        throw invalidField('kilo_user_id', 'or organization_id: name who pays for the project');
      }
      await checkPayer(pool, user, organization, {});
      const payer =
        organization === null
          ? ({ payerScope: 'user', payerId: user ?? '' } as const)
          : ({ payerScope: 'organization', payerId: organization } as const);
      return { key: { ...none, ...payer, projectId: id }, onlyUser: user };
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
  return {
    payerScope: key.organization_id === null ? 'user' : 'organization',
    payerId,
    onlyUser: key.kilo_user_id,
  } as const;
}

export async function checkPayer(
  pool: pg.Pool,
  user: string | null,
  organization: string | null,
  fields: { user?: 'id'; organization?: 'id' },
  isMember = false,
): Promise<void> {
  const [row] = await runStatement<
    Record<'is_user' | 'is_organization' | 'is_member' | 'is_elsewhere', boolean>
  >(pool, FIND_PAYER, [user, organization, isMember]);
  if (!row?.is_user) throw unknownUser(fields.user);
  if (!row.is_organization) throw unknownOrganization(fields.organization);
  if (row.is_elsewhere) throw elsewhere(organization === null ? 'user' : 'organization');
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
  return readOneOf('mode', mode, BUDGET_MODES) === 'hard';
}

/** USD to microdollars; 0 is a limit: nothing may be spent. */
export function readLimit(field: string, usd: string | number): number {
  let limit: number;
  try {
    limit = writtenMicrodollars(usd);
  } catch (cause) {
    throw new LedgerError('invalid_request', `${field} must be an amount in USD, like 12.50`, {
      details: { field },
      cause,
    });
  }
  // Also what rounds to zero.
  if (limit < 0 || /^\s*-/.test(String(usd))) throw invalidField(field, 'must not be negative');
  // Else a slip of the decimal point would forbid all spending.
  if (limit === 0 && /^[^e]*[1-9]/i.test(String(usd)))
    throw invalidField(field, 'must be 0, or at least 0.000001 after rounding');
  if (limit > MAX_LIMIT) throw invalidField(field, 'must be at most a billion USD');
  return limit;
}

/** Zones that the server of a pool has: to look for one, it reads the files of all. */
const knownZones = new WeakMap<pg.Pool, Set<string>>();

/**
 * An IANA name that the server knows: one that it does not would fail every fold of the payer. No
 * offsets, which have no daylight saving time.
 */
async function readTimeZone(pool: pg.Pool, zone: string): Promise<string> {
  readText('time_zone', zone, 64);
  // The one that every server has.
  const known = knownZones.get(pool) ?? new Set(['UTC']);
  if (known.has(zone)) return zone;
  const [row] = await runStatement(
    pool,
    `/* budgets.findTimeZone */ select name from pg_timezone_names where name = $1::text`,
    [zone],
  );
  if (row) {
    knownZones.set(pool, known.add(zone));
    return zone;
  }
  throw invalidField('time_zone', 'must be an IANA time zone, like Europe/Berlin');
}

function readFuture(field: string, value: string): string {
  const instant = readInstant(field, value);
  if (instant.epochMs <= Date.now()) throw invalidField(field, 'lies in the past');
  return instant.text;
}
