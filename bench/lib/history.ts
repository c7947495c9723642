import type pg from 'pg';
import type { BenchDatabase } from './bench.js';

/** Users of the history; each has `rows / USERS` usage rows, spread over the days. */
export const HISTORY_USERS = 1_000;
export const HISTORY_DAYS = 90;

/** A tenth of the rows are an organization's. */
const ORGANIZATION = "'0b5e7c1a-5f5e-4d6f-9a51-3f2f8c1d0e01'::uuid";

const INDEXES = ['created_at', 'kilo_user_id_created_at', 'organization_id_created_at'].map(
  (columns) => `idx_microdollar_usage_${columns}`,
);

/**
 * Usage of 90 days up to now, in order of time with the users interleaved, as a live table is;
 * with its rollup and balances. Rows `from` to `until` are added; earlier rows stay as they are.
 */
export async function growHistory(database: BenchDatabase, from: number, until: number) {
  await withoutIndexes(database.admin, async (client) => {
    if (from === 0) await insertAccounts(client);
    await insertUsage(client, from, until);
  });
  const client = await database.admin.connect();
  try {
    await rebuildTotals(client);
    await client.query('vacuum (analyze)');
    await client.query('checkpoint');
  } finally {
    client.release(true);
  }
}

type Client = { query(text: string, values?: unknown[]): Promise<unknown> };

/** Loads usage without its indexes, and builds them after: a fifth of the time. */
export async function withoutIndexes(
  admin: pg.Pool,
  load: (client: Client) => Promise<void>,
): Promise<void> {
  const client = await admin.connect();
  try {
    await client.query("set synchronous_commit = off; set maintenance_work_mem = '512MB'");
    const definitions = await client.query<{ indexdef: string }>(
      'select indexdef from pg_indexes where indexname = any($1)',
      [INDEXES],
    );
    await client.query('alter table microdollar_usage drop constraint microdollar_usage_pkey');
    for (const index of INDEXES) await client.query(`drop index ${index}`);
    await load(client);
    await client.query('alter table microdollar_usage add primary key (id)');
    for (const { indexdef } of definitions.rows) await client.query(indexdef);
  } finally {
    // With its settings.
    client.release(true);
  }
}

async function insertAccounts(client: Client): Promise<void> {
  await client.query(
    `insert into kilocode_users (id)
    select 'user-' || lpad(i::text, 7, '0') from generate_series(1, $1::integer) as i`,
    [HISTORY_USERS],
  );
  await client.query(`insert into organizations (id, name) values (${ORGANIZATION}, 'bench')`);
}

/** Ids rise with time, as version 7 ids do. Each growth covers all days, between the rows there. */
async function insertUsage(client: Client, from: number, until: number): Promise<void> {
  await client.query(
    `insert into microdollar_usage (id, kilo_user_id, organization_id, provider, model,
      requested_model, inference_provider, cost, input_tokens, output_tokens, created_at)
    select lpad(to_hex(i), 32, '0')::uuid,
      'user-' || lpad((1 + (i * 7919) % $3)::text, 7, '0'),
      case when (i / $3) % 10 = 0 then ${ORGANIZATION} end,
      'openrouter', 'anthropic/claude-opus-5', 'anthropic/claude-opus-5', 'primary',
      1 + (i * 104729) % 100000, 4000 + i % 9000, 100 + i % 900,
      now() - make_interval(days => $4)
        + make_interval(secs => $4 * 86400.0 * (i - $1) / ($2 - $1))
    from generate_series($1::bigint, $2::bigint - 1) as i`.replaceAll('$4', `${HISTORY_DAYS}`),
    [from, until, HISTORY_USERS],
  );
}

/**
 * From raw usage, day by day, as live rows come to lie: a user's days are on as many pages. The
 * rows' guards serve the ledger's protocol, and nobody else is here.
 */
async function rebuildTotals(client: Client): Promise<void> {
  await client.query('set session_replication_role = replica');
  await client.query('truncate microdollar_usage_daily');
  await client.query(
    `insert into microdollar_usage_daily
      (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
    select kilo_user_id, organization_id, (created_at at time zone 'UTC')::date, sum(cost)
    from microdollar_usage
    group by 1, 2, 3
    order by 3, hashtext(kilo_user_id)`,
  );
  await client.query(
    `update kilocode_users as u
    set microdollars_used = s.cost
    from (
      select kilo_user_id, sum(total_cost_microdollars)::bigint as cost
      from microdollar_usage_daily where organization_id is null group by 1
    ) as s
    where u.id = s.kilo_user_id`,
  );
  await client.query(
    `update organizations as o
    set microdollars_used = s.cost
    from (
      select organization_id, sum(total_cost_microdollars)::bigint as cost
      from microdollar_usage_daily where organization_id is not null group by 1
    ) as s
    where o.id = s.organization_id`,
  );
  await client.query('reset session_replication_role');
}
