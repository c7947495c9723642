import { compareSources } from '../../report/shadow.js';
import { randomUsersStatement } from '../../report/shadow.sql.js';
import type { RollupDatabase } from '../../rollup/database.js';
import { addComparisonsStatement } from '../../rollup/readMode.sql.js';

/**
 * Shadow comparisons that no request asked for: users with recent usage, each within the time
 * budget of bulk work. They count while the mode is `shadow`. Mismatches in words.
 */
export async function compareUsers(
  { query }: Pick<RollupDatabase, 'query'>,
  count: number,
): Promise<{ comparisons: number; mismatches: string[] }> {
  const users = await query<{ kilo_user_id: string }>(randomUsersStatement(count));
  const mismatches: string[] = [];
  for (const { kilo_user_id: kiloUserId } of users) {
    const range = { kiloUserId, organizationId: null, from: null, until: null, asOf: null };
    const { isEqual, describe } = await compareSources(query, range);
    if (!isEqual) mismatches.push(`${kiloUserId}: ${describe()}`);
    await query(addComparisonsStatement(1, isEqual ? 0 : 1));
  }
  return { comparisons: users.length, mismatches };
}
