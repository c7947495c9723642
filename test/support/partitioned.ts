import type pg from 'pg';
import {
  addMonths,
  lowestIdOf,
  monthOf,
  partitionOf,
} from '../../src/db/migrate/partitions/months.js';
import { migrate } from '../../src/db/migrate.js';

/**
 * Partitions an empty ledger as one that has been so for long: months before this one, this one and
 * those ahead; and ids of tests, which are random, are spread over two ranges and the default.
 */
export async function partitionFully(pool: pg.Pool, url: string): Promise<void> {
  await migrate(url, { partitionById: true });
  const now = monthOf(Date.now());
  const ranges = [-2, -1, 0].map((ahead) => {
    const month = addMonths(now, ahead);
    return [partitionOf(month), lowestIdOf(month), lowestIdOf(addMonths(month, 1))] as const;
  });
  const random = (name: string, from: string, until: string) =>
    [
      `microdollar_usage_${name}`,
      `${from}000000-0000-0000-0000-000000000000`,
      `${until}000000-0000-0000-0000-000000000000`,
    ] as const;
  for (const [name, from, until] of [
    ...ranges,
    random('low', '02', '60'),
    random('high', '60', 'c0'),
  ]) {
    await pool.query(
      `create table if not exists ${name}
        partition of microdollar_usage for values from ('${from}') to ('${until}')`,
    );
  }
}
