import type { Query } from '../db/query.js';
import type { Rollup } from '../schema/rollups.js';

/** Creates the row of a key; by argument number: user, organization, period. */
const OPENED: Record<Rollup['name'], string> = {
  microdollar_usage_daily: 'microdollar_open_daily($1::text, $2::uuid, $3::date)',
  exa_monthly_usage: 'microdollar_open_exa_month($1::text, $2::uuid, $3::date)',
};

/**
 * The id of a key's counter row, which is made at zero where it is missing, in a transaction of its
 * own (R8); null when someone else is at it.
 */
export async function openCounter(
  query: Query,
  rollup: Rollup,
  key: { kiloUserId: string; organizationId: string | null; period: string },
): Promise<string | null> {
  const values = [key.kiloUserId, key.organizationId, key.period];
  await query({
    name: `microdollar_open_${rollup.name}`,
    text: `/* microdollar.openMissingRow */ select ${OPENED[rollup.name]}`,
    values,
  });
  const [row] = await query<{ id: string }>({
    name: `microdollar_find_${rollup.name}`,
    text: `/* microdollar.findCounterRow */
select id
from ${rollup.name}
where kilo_user_id = $1::text
  and organization_id is not distinct from $2::uuid
  and ${rollup.periodColumn} = $3::date`,
    values,
  });
  return row?.id ?? null;
}
