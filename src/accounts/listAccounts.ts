import type pg from 'pg';
import { readUuid } from '../ids.js';
import { toExactInteger } from '../money.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../schema/unsettled.js';
import { readText, unknownOrganization, unknownUser } from './fields.js';
import { nextExpiryOf } from './grants/grants.sql.js';
import { withNextExpiries } from './grants/nextExpiry.js';
import { runStatement } from './runStatement.js';

/** Most rows of a list; a longer one says so (`has_more`). */
export const MAX_LISTED = 1_000;

/** Microdollars, exact whatever its size: a bigint beyond 2^53. */
type Amount = number | bigint;

/** Exact at once (I5). */
export interface Balance {
  microdollars_used: Amount;
  total_microdollars_acquired: Amount;
  /** Of the next credit that expires and has something left, ISO 8601; null: none does. */
  next_credit_expiry_at: string | null;
}

export interface ListedUser extends Balance {
  id: string;
  email: string | null;
  name: string | null;
  /** ISO 8601. */
  created_at: string;
  /** ISO 8601; null: not deleted. */
  deleted_at: string | null;
}

export interface ListedOrganization extends Balance {
  id: string;
  name: string;
  members: number;
  /** ISO 8601. */
  created_at: string;
}

export interface ListedMember {
  kilo_user_id: string;
  name: string | null;
  role: string;
  /** ISO 8601. */
  created_at: string;
}

/** Rows of one page, and whether there are more after the last of them. */
export interface Listed<Row> {
  rows: Row[];
  has_more: boolean;
}

/** As the driver has it. */
type Stored<Row> = {
  [Name in keyof Row]: bigint extends Row[Name]
    ? string
    : Name extends 'created_at' | 'deleted_at'
      ? Date | Extract<Row[Name], null>
      : Name extends 'next_credit_expiry_at'
        ? Date | string | null
        : Row[Name];
};

const USERS = `select u.id, u.email, u.name, u.created_at, u.deleted_at,
      u.total_microdollars_acquired::text,
      (select b.microdollars_used::text from kilocode_user_balances as b
        where b.kilo_user_id = u.id) as microdollars_used,
      ${nextExpiryOf(USER_SCOPE, 'u')} as next_credit_expiry_at
    from kilocode_users as u`;

/** Of `o`. An adopted table may have none for some. */
export const ORGANIZATION_NAME = "coalesce(nullif(o.name, ''), o.id::text)";

const ORGANIZATIONS = `select o.id, ${ORGANIZATION_NAME} as name, o.created_at,
      o.total_microdollars_acquired::text,
      (select b.microdollars_used::text from organization_balances as b
        where b.organization_id = o.id) as microdollars_used,
      ${nextExpiryOf(ORGANIZATION_SCOPE, 'o')} as next_credit_expiry_at,
      (select count(*)::integer from organization_memberships as m
        where m.organization_id = o.id) as members
    from organizations as o`;

/** In the order of their ids, after `after`. */
export async function listUsers(pool: pg.Pool, after?: string): Promise<Listed<ListedUser>> {
  const rows = await runStatement<Stored<ListedUser>>(
    pool,
    `/* accounts.listUsers */
    ${USERS}
    where not u.is_elsewhere
      and ($1::text is null or u.id > $1)
    order by u.id
    limit $2`,
    [after ?? null, MAX_LISTED + 1],
  );
  return page(await withNextExpiries(pool, rows, userOf), toUser);
}

/** @throws LedgerError `unknown_user` */
export async function getUser(pool: pg.Pool, id: string): Promise<ListedUser> {
  const [row] = await runStatement<Stored<ListedUser>>(
    pool,
    `/* accounts.getUser */
    ${USERS}
    where u.id = $1::text
      and not u.is_elsewhere`,
    [readText('id', id)],
  );
  if (row === undefined) throw unknownUser(undefined, '`user list` names those there are');
  const [user = row] = await withNextExpiries(pool, [row], userOf);
  return toUser(user);
}

/** In the order of their ids, after `after`. */
export async function listOrganizations(
  pool: pg.Pool,
  after?: string,
): Promise<Listed<ListedOrganization>> {
  const rows = await runStatement<Stored<ListedOrganization>>(
    pool,
    `/* accounts.listOrganizations */
    ${ORGANIZATIONS}
    where not o.is_elsewhere
      and ($1::uuid is null or o.id > $1)
    order by o.id
    limit $2`,
    [after === undefined ? null : readUuid('after', after), MAX_LISTED + 1],
  );
  return page(await withNextExpiries(pool, rows, organizationOf), toOrganization);
}

/** @throws LedgerError `unknown_organization` */
export async function getOrganization(pool: pg.Pool, id: string): Promise<ListedOrganization> {
  const [row] = await runStatement<Stored<ListedOrganization>>(
    pool,
    `/* accounts.getOrganization */
    ${ORGANIZATIONS}
    where o.id = $1::uuid
      and not o.is_elsewhere`,
    [readUuid('organization_id', id)],
  );
  if (row === undefined) throw unknownOrganization(undefined, '`org list` names those there are');
  const [organization = row] = await withNextExpiries(pool, [row], organizationOf);
  return toOrganization(organization);
}

/** In the order of their ids, after `after`. @throws LedgerError `unknown_organization` */
export async function listMembers(
  pool: pg.Pool,
  organizationId: string,
  after?: string,
): Promise<Listed<ListedMember>> {
  const id = readUuid('organization_id', organizationId);
  const rows = await runStatement<Stored<ListedMember>>(
    pool,
    `/* accounts.listMembers */
    select m.kilo_user_id, u.name, m.role, m.created_at
    from organization_memberships as m
    join kilocode_users as u on u.id = m.kilo_user_id
    where m.organization_id = $1::uuid
      and ($2::text is null or m.kilo_user_id > $2)
    order by m.kilo_user_id
    limit $3`,
    [id, after ?? null, MAX_LISTED + 1],
  );
  if (rows.length === 0) await getOrganization(pool, id);
  return page(rows, (row) => ({ ...row, created_at: row.created_at.toISOString() }));
}

/** @param rows one more than a page, where there are more */
export function page<StoredRow, Row>(rows: StoredRow[], to: (row: StoredRow) => Row): Listed<Row> {
  return { rows: rows.slice(0, MAX_LISTED).map(to), has_more: rows.length > MAX_LISTED };
}

const userOf = ({ id }: { id: string }) => ({ kilo_user_id: id });
const organizationOf = ({ id }: { id: string }) => ({ organization_id: id });

function toUser(row: Stored<ListedUser>): ListedUser {
  return {
    ...row,
    ...toBalance(row),
    created_at: row.created_at.toISOString(),
    deleted_at: row.deleted_at?.toISOString() ?? null,
  };
}

function toOrganization(row: Stored<ListedOrganization>): ListedOrganization {
  return { ...row, ...toBalance(row), created_at: row.created_at.toISOString() };
}

function toBalance(row: Stored<Balance>): Balance {
  return {
    microdollars_used: toExactInteger(row.microdollars_used),
    total_microdollars_acquired: toExactInteger(row.total_microdollars_acquired),
    next_credit_expiry_at:
      row.next_credit_expiry_at && new Date(row.next_credit_expiry_at).toISOString(),
  };
}
