import type { Pool } from 'pg';

export interface WantedAccounts {
  users: readonly string[];
  organizations: readonly { id: string; name: string }[];
  members: readonly { organization: string; user: string }[];
}

/** Creates users, organizations and memberships; what is there already stays as it is. */
export async function ensureAccounts(pool: Pool, wanted: WantedAccounts): Promise<void> {
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
