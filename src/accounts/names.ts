import type pg from 'pg';
import { runStatement } from './runStatement.js';

/** What people call keys and users, by id. Who has no name, or is not there, is not in it. */
export interface AccountNames {
  keys: ReadonlyMap<string, string>;
  users: ReadonlyMap<string, string>;
}

/** @throws LedgerError `unavailable` */
export async function readNames(
  pool: pg.Pool,
  { keys, users }: { keys: readonly string[]; users: readonly string[] },
): Promise<AccountNames> {
  if (keys.length + users.length === 0) return { keys: new Map(), users: new Map() };
  const rows = await runStatement<{ is_key: boolean; id: string; name: string }>(
    pool,
    `/* accounts.readNames */
     select true as is_key, k.id::text, k.name
     from api_keys as k
     where k.id = any($1::uuid[])
       and k.name <> ''
     union all
     select false, u.id, u.name
     from kilocode_users as u
     where u.id = any($2::text[])
       and u.name <> ''`,
    [keys, users],
  );
  const of = (isKey: boolean) =>
    new Map(rows.filter((row) => row.is_key === isKey).map(({ id, name }) => [id, name]));
  return { keys: of(true), users: of(false) };
}
