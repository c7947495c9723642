import pg from 'pg';
import {
  addMonths,
  lowestIdOf,
  monthOf,
  partitionOf,
} from '../../src/db/migrate/partitions/months.js';
import { migrate } from '../../src/db/migrate.js';

/** Ids of tests are random: over two ranges beside all that a UUID v7 may be, and the default. */
const RANDOM_IDS = [
  ['microdollar_usage_low', '02', '60'],
  ['microdollar_usage_high', '60', 'c0'],
] as const;
const idFrom = (firstByte: string) => `${firstByte}000000-0000-0000-0000-000000000000`;

/**
 * Partitions an empty ledger as one that has been so for long: the months before this one, this one and
 * those ahead. With MICRODOLLAR_TEST_PARTITIONED=1 every database of a run is so (madeCluster.ts).
 */
export async function partitionFully(url: string): Promise<void> {
  await migrate(url, { partitionById: true });
  const now = monthOf(Date.now());
  const months = [-2, -1, 0].map((count) => {
    const month = addMonths(now, count);
    return [partitionOf(month), lowestIdOf(month), lowestIdOf(addMonths(month, 1))];
  });
  const others = RANDOM_IDS.map(([name, from, until]) => [name, idFrom(from), idFrom(until)]);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const [name, from, until] of [...months, ...others]) {
      await client.query(
        `create table ${name} (like microdollar_usage including all) with (vacuum_truncate = off)`,
      );
      await client.query(
        `alter table microdollar_usage attach partition ${name} for values from ('${from}') to ('${until}')`,
      );
    }
  } finally {
    await client.end();
  }
}
