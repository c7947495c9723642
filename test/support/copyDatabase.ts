import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';

/**
 * What a dump of `source`, restored into the migrated database `target`, brings: the rows of every
 * table, from one snapshot, and nothing of the cluster that they come from.
 */
export async function copyDatabase(source: string, target: string): Promise<void> {
  const from = new pg.Client({ connectionString: source });
  const to = new pg.Client({ connectionString: target });
  await Promise.all([from.connect(), to.connect()]);
  try {
    await from.query('begin isolation level repeatable read read only');
    const tables = await from.query<{ name: string }>(
      `select quote_ident(relname) as name from pg_class
      where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p') and not relispartition`,
    );
    const names = tables.rows.map((row) => row.name);
    await to.query('begin');
    // As pg_restore --disable-triggers: foreign keys are right already.
    await to.query(`set local session_replication_role = 'replica'`);
    await to.query(`truncate ${names.join(', ')}`);
    for (const name of names) {
      const columns = await columnsOf(from, name);
      await pipeline(
        from.query(copyTo(`copy (select ${columns} from ${name}) to stdout`)),
        to.query(copyFrom(`copy ${name} (${columns}) from stdin`)),
      );
    }
    await to.query('commit');
    await from.query('commit');
  } finally {
    await Promise.all([from.end(), to.end()]);
  }
}

async function columnsOf(client: pg.Client, table: string): Promise<string> {
  const result = await client.query<{ names: string }>(
    `select string_agg(quote_ident(attname), ', ' order by attnum) as names
    from pg_attribute
    where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = ''`,
    [table],
  );
  return result.rows[0]?.names ?? '';
}

/** Has the cluster give away so many transaction ids. */
export async function burnTransactionIds(database: pg.Pool, count: number): Promise<void> {
  await database.query(`do $$
    begin
      for n in 1..${count} loop
        perform pg_current_xact_id();
        commit;
      end loop;
    end $$`);
}
