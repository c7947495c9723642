import type pg from 'pg';

/** An organization of the raw history. */
export const RAW_ORGANIZATION = '00000000-0000-4000-8000-0000000000aa';

/**
 * History as a program writes it that knows neither rollup nor balance: `rows` usage rows spread
 * over `days` days until now and over `users` users, some of an organization's, some refunds,
 * some free. The payers are adopted: their opening balance is unknown.
 */
export async function writeRawHistory(
  pool: pg.Pool,
  { rows, days, users }: { rows: number; days: number; users: number },
): Promise<void> {
  await pool.query(
    `insert into kilocode_users (id, opening_microdollars_used)
     select 'user-' || i, null from generate_series(1, $1::integer) as i`,
    [users],
  );
  await pool.query(
    'insert into organizations (id, name, opening_microdollars_used) values ($1, $2, null)',
    [RAW_ORGANIZATION, 'history'],
  );
  await pool.query(
    `insert into organization_memberships (organization_id, kilo_user_id)
     select $1::uuid, id from kilocode_users`,
    [RAW_ORGANIZATION],
  );
  const step = 250_000;
  for (let from = 1; from <= rows; from += step) {
    await insertRawRows(pool, { from, until: Math.min(rows, from + step - 1), rows, days, users });
  }
  await pool.query('vacuum (analyze) microdollar_usage');
  await pool.query(`update ledger_settings set read_mode = 'raw', installed_empty = false`);
}

async function insertRawRows(
  pool: pg.Pool,
  range: { from: number; until: number; rows: number; days: number; users: number },
): Promise<void> {
  await pool.query(
    `insert into microdollar_usage (id, kilo_user_id, organization_id, cost, created_at)
     select gen_random_uuid(), 'user-' || (1 + floor(random() * $5::integer)),
       case when random() < 0.2 then $6::uuid end,
       case when random() < 0.05 then 0 when random() < 0.05 then -floor(random() * 500)
         else floor(random() * 5000) end,
       now() - make_interval(secs => 86400.0 * $4::integer * (1 - i::float8 / $3::integer))
     from generate_series($1::integer, $2::integer) as i`,
    [range.from, range.until, range.rows, range.days, range.users, RAW_ORGANIZATION],
  );
}
