import type { Pool } from 'pg';
import { LedgerError } from '../errors.js';
import {
  type Accounts,
  addMember,
  createOrganization,
  createUser,
  isPool,
} from '../shards/accounts.js';
import { mapBounded } from '../shards/mapBounded.js';

export interface WantedAccounts {
  users: readonly string[];
  organizations: readonly { id: string; name: string }[];
  members: readonly { organization: string; user: string }[];
}

/** Over shards an account is a call of its own. */
const MAX_AT_ONCE = 8;

/** Creates users, organizations and memberships; what is there already stays as it is. */
export async function ensureAccounts(accounts: Accounts, wanted: WantedAccounts): Promise<void> {
  if (isPool(accounts)) return await ensureOnPool(accounts, wanted);
  await mapBounded(wanted.users, MAX_AT_ONCE, (id) => ensure(createUser(accounts, { id })));
  await mapBounded(wanted.organizations, MAX_AT_ONCE, (organization) =>
    ensure(createOrganization(accounts, organization)),
  );
  await mapBounded(wanted.members, MAX_AT_ONCE, ({ organization, user }) =>
    ensure(addMember(accounts, organization, user)),
  );
}

async function ensure(making: Promise<unknown>): Promise<void> {
  try {
    await making;
  } catch (error) {
    if (error instanceof LedgerError && error.code === 'already_exists') return;
    throw error;
  }
}

async function ensureOnPool(pool: Pool, wanted: WantedAccounts): Promise<void> {
  const { users, organizations, members } = wanted;
  if (users.length > 0) {
    await pool.query(
      `insert into kilocode_users (id)
       select unnest($1::text[])
       on conflict (id) do nothing`,
      [users],
    );
  }
  if (organizations.length > 0) {
    await pool.query(
      `insert into organizations (id, name)
       select * from unnest($1::uuid[], $2::text[])
       on conflict (id) do nothing`,
      [organizations.map(({ id }) => id), organizations.map(({ name }) => name)],
    );
  }
  if (members.length === 0) return;
  await pool.query(
    `insert into organization_memberships (organization_id, kilo_user_id)
     select * from unnest($1::uuid[], $2::text[])
     on conflict do nothing`,
    [members.map(({ organization }) => organization), members.map(({ user }) => user)],
  );
}
