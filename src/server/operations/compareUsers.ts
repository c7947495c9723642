import { compareSources } from '../../report/shadow.js';
import { randomUsersStatement } from '../../report/shadow.sql.js';
import { openRollupDatabase } from '../../rollup/database.js';
import { addComparisonsStatement } from '../../rollup/readMode.sql.js';

/** Shadow comparisons that no request asked for; they count while the mode is `shadow`. */
export async function compareUsers(
  databaseUrl: string,
  count: number,
): Promise<{ comparisons: number; mismatches: number }> {
  const database = openRollupDatabase(databaseUrl, 1);
  try {
    const users = await database.query<{ kilo_user_id: string }>(randomUsersStatement(count));
    let mismatches = 0;
    for (const { kilo_user_id: kiloUserId } of users) {
      const range = { kiloUserId, organizationId: null, from: null, until: null, asOf: null };
      const { isEqual } = await compareSources(database.query, range);
      if (!isEqual) mismatches++;
      await database.query(addComparisonsStatement(1, isEqual ? 0 : 1));
    }
    return { comparisons: users.length, mismatches };
  } finally {
    await database.close();
  }
}
