import type pg from 'pg';
import { unknownUser } from '../accounts/fields.js';
import { softDeleteUser } from '../accounts/softDelete.js';
import { queryOnPool } from '../db/query.js';
import { toLedgerError } from '../db/sqlstate.js';
import type { NamedPayer } from '../ledgerTypes.js';

const FIND = {
  name: 'microdollar_shard_find_user',
  text: `/* shards.findUser */
select u.deleted_at::text as deleted_at, u.is_elsewhere from kilocode_users as u where u.id = $1::text`,
};

/** Known, and no more: neither name nor money. Who is there already stays as they are. */
const INTRODUCE = {
  name: 'microdollar_shard_introduce',
  text: `/* shards.introduce */
insert into kilocode_users (id, is_elsewhere, deleted_at)
select $1::text, true, $2::timestamptz
on conflict (id) do nothing`,
};

/** What finds the shard of a payer: a ledger, or its router. */
export interface Finder {
  at<T>(payer: NamedPayer, run: (ledger: { pool: pg.Pool }) => Promise<T>): Promise<T>;
}

interface FoundUser {
  deleted_at: string | null;
  is_elsewhere: boolean;
}

/**
 * Makes a user known on a shard that is not theirs: a member of an organization there, or an actor of its
 * events. A soft delete that comes beside reaches them: either it finds the row that this wrote, or this
 * finds its mark.
 * @throws LedgerError `unknown_user`: nowhere; `unavailable`
 */
export async function introduceUser(
  finder: Finder,
  kiloUserId: string,
  on: { pool: pg.Pool },
): Promise<void> {
  const query = queryOnPool(on.pool, false);
  try {
    const before = await findUser(finder, kiloUserId);
    await query({ ...INTRODUCE, values: [kiloUserId, before.deleted_at] });
    if (before.deleted_at !== null) return;
    const after = await findUser(finder, kiloUserId);
    if (after.deleted_at !== null) await softDeleteUser(on.pool, kiloUserId);
  } catch (error) {
    throw toLedgerError(error);
  }
}

function findUser(finder: Finder, kiloUserId: string): Promise<FoundUser> {
  return finder.at({ kilo_user_id: kiloUserId }, async ({ pool }) => {
    const [user] = await queryOnPool(pool, false)<FoundUser>({ ...FIND, values: [kiloUserId] });
    if (user === undefined || user.is_elsewhere) throw unknownUser();
    return user;
  });
}
