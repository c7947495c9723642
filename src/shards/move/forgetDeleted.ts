import { softDeleteUser } from '../../accounts/softDelete.js';
import { queryOnPool } from '../../db/query.js';
import { withRetry } from '../../db/retry.js';
import { deletedUsersStatement } from './readRows.sql.js';
import type { MovedPayer, MoveShard } from './types.js';

/**
 * Users who were deleted while their rows were on the way: what was read of them before is scrubbed where it
 * came to. Who is deleted from now on is known on both shards, and reached there. Idempotent.
 */
export async function forgetDeleted({
  payer,
  from,
  to,
}: {
  payer: MovedPayer;
  from: MoveShard;
  to: MoveShard;
}): Promise<void> {
  const query = queryOnPool(from.pool, false);
  const find = deletedUsersStatement(payer.scope, payer.id);
  for (const { id } of await withRetry(() => query<{ id: string }>(find))) {
    await softDeleteUser(to.pool, id);
  }
}
