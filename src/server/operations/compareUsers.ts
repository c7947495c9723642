import { compareSources } from '../../report/shadow.js';
import { randomScopesStatement, type ScopeRow } from '../../report/shadow.sql.js';
import type { RollupDatabase } from '../../rollup/database.js';
import { addComparisonsStatement } from '../../rollup/readMode.sql.js';

/**
 * Shadow comparisons that no request asked for: users with recent usage, personal or in an organization,
 * each within the time budget of bulk work. They count while the mode is `shadow`. Mismatches in words.
 */
export async function compareUsers(
  { query }: Pick<RollupDatabase, 'query'>,
  count: number,
): Promise<{ comparisons: number; mismatches: string[] }> {
  const scopes = await query<ScopeRow>(randomScopesStatement(count));
  const mismatches: string[] = [];
  for (const { kilo_user_id: kiloUserId, organization_id: organizationId } of scopes) {
    const range = { kiloUserId, organizationId, from: null, until: null, asOf: null };
    const { isEqual, describe } = await compareSources(query, range);
    const where = organizationId === null ? '' : ` in organization ${organizationId}`;
    if (!isEqual) mismatches.push(`${kiloUserId}${where}: ${describe()}`);
    await query(addComparisonsStatement(1, isEqual ? 0 : 1));
  }
  return { comparisons: scopes.length, mismatches };
}
