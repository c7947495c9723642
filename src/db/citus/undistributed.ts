import { LedgerError } from '../../errors.js';
import { LEDGER_NAMESPACE } from '../ledgerSchema.js';

/**
 * On a server with Citus a ledger lives in tables of one node, which Citus does not distribute
 * (docs/operations/citus.md). Two things forbid more: a position is an id of a transaction of the node
 * that wrote it (R6), so rows that are written on one node and settled on another, or moved to it, would
 * be lost from totals without an error; and Citus refuses the statements of the settle.
 */
interface Queryable {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
}

const IS_THERE = `select to_regclass('pg_catalog.pg_dist_partition') is not null as is_there,
  to_regclass('pg_catalog.pg_dist_schema') is not null as has_schemas`;

const SCHEMAS = `select quote_ident(n.nspname) as name
from pg_dist_schema as d
join pg_namespace as n on n.oid = d.schemaid
where n.oid = ${LEDGER_NAMESPACE}`;

const TABLES = `select c.relname as name
from pg_dist_partition as d
join pg_class as c on c.oid = d.logicalrelid
where c.relnamespace = ${LEDGER_NAMESPACE}
  and c.relname = any ($1::text[])
order by 1
limit 1`;

/** What a session that makes tables has set, so that they stay on its node. */
export const UNDISTRIBUTED: Readonly<Record<string, string>> = {
  'citus.enable_schema_based_sharding': 'off',
  'citus.use_citus_managed_tables': 'off',
  'citus.enable_ddl_propagation': 'off',
};

/** Whether the database has Citus. Reads the catalog alone. */
export async function hasCitus(database: Queryable): Promise<boolean> {
  const { rows } = await database.query(IS_THERE);
  return (rows[0] as { is_there: boolean }).is_there;
}

/** @throws LedgerError `unavailable` for a database without Citus, or with one from before its schemas */
export async function assertCitus(database: Queryable): Promise<void> {
  const [citus] = (await database.query(IS_THERE)).rows as {
    is_there: boolean;
    has_schemas: boolean;
  }[];
  if (citus?.is_there && citus.has_schemas) return;
  throw new LedgerError(
    'unavailable',
    citus?.is_there
      ? 'this Citus places no schemas: 12 or later is needed (docs/operations/citus.md)'
      : 'this database has no Citus, which was to place the schema: create extension citus',
    { details: { distributed: true } },
  );
}

/**
 * That Citus distributes neither the ledger's schema nor one of its tables. Reads the catalog alone.
 * @throws LedgerError `unavailable` with the remedy
 */
export async function assertUndistributed(
  database: Queryable,
  tables: readonly string[],
): Promise<void> {
  const [citus] = (await database.query(IS_THERE)).rows as {
    is_there: boolean;
    has_schemas: boolean;
  }[];
  if (!citus?.is_there) return;
  const [schema] = citus.has_schemas
    ? ((await database.query(SCHEMAS)).rows as { name: string }[])
    : [];
  if (schema) throw refusal(`the schema ${schema.name}`);
  const [table] = (await database.query(TABLES, [tables])).rows as { name: string }[];
  if (table) throw refusal(`the table ${table.name}`);
}

function refusal(what: string): LedgerError {
  return new LedgerError(
    'unavailable',
    `Citus distributes ${what}: a ledger needs tables of one node, for its positions are ids of the ` +
      'transactions there; use a schema that Citus does not distribute (docs/operations/citus.md)',
    { details: { distributed: true } },
  );
}
