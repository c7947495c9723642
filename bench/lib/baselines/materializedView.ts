import type { ApproachDefinition } from '../approach.js';
import { Periodic } from './periodic.js';
import { CONNECTIONS, eventStatement, openPool, WRITE_ROWS } from './statements.js';
import { differencesFrom } from './totals.js';

const TEXT = `/* insert, totals by refresh */
with ${WRITE_ROWS}
select true as is_written`;

const PAUSE_MS = 1_000;

const VIEW = `
create materialized view bench_daily as
select kilo_user_id, organization_id, (created_at at time zone 'UTC')::date as usage_date,
  sum(cost)::bigint as total
from microdollar_usage
group by 1, 2, 3;
create unique index on bench_daily (kilo_user_id, organization_id, usage_date)
nulls not distinct;`;

/** `refresh concurrently`, again a second after the last one ended. Reads all raw rows each time. */
export const materializedView: ApproachDefinition = {
  name: 'materialized-view',
  label: 'materialized view, refreshed each second',
  kind: 'alternative',
  caveat: 'totals are stale, and a refresh takes as long as there is history',
  callers: CONNECTIONS,
  async open({ url, admin, lookups }) {
    await admin.query(VIEW);
    const pool = openPool(url);
    const refresher = openPool(url, 1);
    const periodic = new Periodic(async () => {
      await refresher.query('set enable_seqscan = on');
      await refresher.query('refresh materialized view concurrently bench_daily');
    }, PAUSE_MS);
    return {
      async write([event]) {
        if (event) await pool.query(eventStatement('view_insert', TEXT, event, lookups));
      },
      resume: () => periodic.resume(),
      settle: () => periodic.settle(),
      notes: () => periodic.notes(),
      differences: () =>
        differencesFrom(admin, {
          daily: 'select * from bench_daily',
          balances: `select coalesce(organization_id::text, kilo_user_id) as payer,
            sum(total) as total from bench_daily group by 1`,
        }),
      async close() {
        await pool.end();
        await refresher.end();
      },
    };
  },
};
