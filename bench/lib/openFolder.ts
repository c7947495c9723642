import { CONNECTION_USES } from '../../src/connections.js';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { createPool } from '../../src/db/pool.js';
import { queryOnPool } from '../../src/db/query.js';
import type { DimensionRollup } from '../../src/schema/dimensionRollups.js';
import type { BenchDatabase } from './bench.js';

/** The background's own folder, on a connection like its own, which the caller ends. */
export function openFolder({ url }: BenchDatabase, rollup: DimensionRollup) {
  const { settings, lockTimeoutMs } = CONNECTION_USES.rollup;
  const pool = createPool({
    url,
    size: 1,
    applicationName: 'microdollar rollup',
    lockTimeoutMs,
    statementTimeoutMs: 600_000,
    settings,
  });
  const folder = new DimensionFolder({
    query: queryOnPool(pool, true),
    rollups: [rollup],
    onError: (error) => {
      throw error;
    },
  });
  return { folder, pool };
}
