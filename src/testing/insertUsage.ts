import { is } from 'drizzle-orm';
import { PgTransaction } from 'drizzle-orm/pg-core';
import type pg from 'pg';
import { POSITION } from '../counter/position.sql.js';
import { inTransaction } from '../db/transaction.js';
import { LedgerError } from '../errors.js';
import { validateEvent } from '../record/event.js';
import { formatMicros, microsOf } from '../record/instants.sql.js';
import { type Executor, resolveExecutor } from '../record/onExecutor.js';
import type { Queryable } from '../record/onHostPool.js';
import type { UsageEvent } from '../record/types.js';
import { USAGE_ARRAY_PARAMETERS, USAGE_COLUMN_LIST, usageArrays } from '../record/usageColumns.js';

/**
 * Writes usage rows directly, with their daily rollup and balance effects, in one transaction:
 * I1-I8 hold for them as if the ledger had recorded them, and base tables are right at once.
 * For tests, on rows with any `created_at`. `db` is a Drizzle database or transaction, or a
 * `pg` Pool or Client.
 * @throws LedgerError when a row is invalid, its user is unknown or its id exists; nothing is written
 */
export async function insertMicrodollarUsageWithDailyRollup(
  db: Executor,
  rows: readonly Omit<UsageEvent, 'metadata'>[],
): Promise<{ id: string; created_at: string }[]> {
  const { client, isOwnTransaction } = resolveExecutor(db);
  if (is(db, PgTransaction)) return await insertAll(client, rows);
  if (isOwnTransaction)
    return await inTransaction(client as pg.Pool, (session) => insertAll(session, rows));
  try {
    await client.query({ text: 'begin', values: [] });
    const inserted = await insertAll(client, rows);
    await client.query({ text: 'commit', values: [] });
    return inserted;
  } catch (error) {
    await client.query({ text: 'rollback', values: [] }).catch(() => {});
    throw error;
  }
}

async function insertAll(
  client: Queryable,
  rows: readonly Omit<UsageEvent, 'metadata'>[],
): Promise<{ id: string; created_at: string }[]> {
  const events = rows.map((row) => validateEvent(row, { nulBytesRemoved: 0 }));
  const inserted = await client.query({ text: INSERT, values: usageArrays(events) });
  const createdAt = new Map(
    (inserted.rows as { id: string; micros: string }[]).map((row) => [row.id, row.micros]),
  );
  const missing = events.find((event) => !createdAt.has(event.id));
  if (missing) {
    throw new LedgerError(
      'invalid_event',
      `usage row ${missing.id} was not inserted: its user or organization is unknown, or its id exists`,
      { details: { field: 'id', id: missing.id } },
    );
  }
  const ids = events.map((event) => event.id);
  for (const text of EFFECTS) await client.query({ text, values: [ids] });
  return events.map((event) => ({
    id: event.id,
    created_at: formatMicros(createdAt.get(event.id) ?? '0'),
  }));
}

/** With a negative position: their effect is in the base counters when the transaction commits. */
const INSERT = `
insert into microdollar_usage (${USAGE_COLUMN_LIST}, position)
select ${USAGE_COLUMN_LIST.split(', ')
  .map((name) => (name === 'created_at' ? 'coalesce(e.created_at, now())' : `e.${name}`))
  .join(', ')}, -(${POSITION})
from unnest(${USAGE_ARRAY_PARAMETERS}) as e(${USAGE_COLUMN_LIST})
join kilocode_users as u on u.id = e.kilo_user_id
where e.organization_id is null
  or exists (select from organizations as o where o.id = e.organization_id)
order by e.id
on conflict (id) do nothing
returning id, ${microsOf('created_at')} as micros`;

const dailyEffect = (condition: string, target: string): string => `
insert into microdollar_usage_daily as d
  (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
select m.kilo_user_id, m.organization_id, (m.created_at at time zone 'UTC')::date, sum(m.cost)
from microdollar_usage as m
where m.id = any ($1::uuid[])
  and m.cost <> 0
  and m.organization_id ${condition}
group by 1, 2, 3
order by 1, 2, 3
on conflict ${target} where organization_id ${condition} do update
set total_cost_microdollars = d.total_cost_microdollars + excluded.total_cost_microdollars,
  updated_at = now()`;

const balanceEffect = (table: string, payer: string, condition: string): string => `
update ${table} as u
set microdollars_used = u.microdollars_used + m.cost
from (
  select m.${payer} as id, sum(m.cost) as cost
  from microdollar_usage as m
  where m.id = any ($1::uuid[])
    and m.organization_id ${condition}
  group by 1
) as m
where u.id = m.id`;

const EFFECTS = [
  dailyEffect('is null', '(kilo_user_id, usage_date)'),
  dailyEffect('is not null', '(kilo_user_id, organization_id, usage_date)'),
  balanceEffect('kilocode_users', 'kilo_user_id', 'is null'),
  balanceEffect('organizations', 'organization_id', 'is not null'),
];
