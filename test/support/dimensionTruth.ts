import type pg from 'pg';
import {
  type DimensionRollup,
  exactRows,
  keyAndSums,
  keyColumns,
  keyPlaces,
  METRIC_NAMES,
} from '../../src/schema/dimensionRollups.js';

const columnsOf = (rollup: DimensionRollup) => [...keyColumns(rollup), ...METRIC_NAMES].join(', ');

/**
 * Keys whose sums are not those of the raw rows, in one snapshot: of what is reported (counter rows and
 * tails), or of the counter rows alone.
 */
export async function findDifferences(
  pool: pg.Pool,
  rollup: DimensionRollup,
  what: 'reported' | 'counters',
  /** Of these keys alone; by columns of the rollup's key. */
  condition = 'true',
): Promise<unknown[]> {
  const columns = columnsOf(rollup);
  const truth = `select ${keyAndSums(rollup)} from microdollar_usage as m
    where ${condition}
    group by ${keyPlaces(rollup)}`;
  const found = what === 'reported' ? exactRows(rollup) : `select ${columns} from ${rollup.name}`;
  const { rows } =
    await pool.query(`with truth as materialized (select ${columns} from (${truth}) as t),
    found as materialized (select ${columns} from (${found}) as f where ${condition})
    (select 'false' as what, * from (table found except all table truth) as x)
    union all
    (select 'absent', * from (table truth except all table found) as y)`);
  return rows;
}
