import type pg from 'pg';
import { LEDGER_NAMESPACE } from '../../ledgerSchema.js';
import { inDependencyOrder } from '../planAdoption.js';
import { dropIndex } from '../planIndexes.js';
import type { SchemaShape, TableShape } from '../shape.js';
import { quote, type Step } from '../step.js';
import { drainPending, ROWS_PER_BATCH } from './drainPending.js';

/**
 * What the versions before the log (eight migrations, none released) made, and this one does not
 * want: a second book of the usage that was in no counter row yet. It is moved into the counter
 * rows, and goes. Usage rows from then have no position: they are in the counter rows.
 */
const PENDING = 'microdollar_usage_pending';
const FLOOR = 'pending_floor';
const PAYERS = ['kilocode_users', 'organizations'] as const;

const FUNCTION_NAMES: ReadonlySet<string> = new Set([
  'microdollar_record_usage',
  'microdollar_record_exa_usage',
  'microdollar_user_balance',
  'microdollar_organization_balance',
  'microdollar_open_daily',
  'microdollar_open_exa_month',
]);

const INDEX_NAMES: ReadonlySet<string> = new Set([
  'idx_microdollar_usage_metadata_kilo_user_id',
  'idx_microdollar_usage_metadata_adjusts_usage_id',
]);

/** Views on pending rows, or of another type than the wanted ones: made anew with the cutover. */
export interface Retirement {
  hasPending: boolean;
  steps: Step[];
}

/**
 * Steps that take leave of the pending table. Pure: reads no database. In order: most pending rows,
 * beside old writers; the rest, the table, the views and the functions in one transaction, after
 * which whatever is left of an old program fails at its first statement; then columns and indexes.
 */
export function planRetirement(found: SchemaShape, wanted: SchemaShape): Retirement {
  const hasPending = found.tables.some((table) => table.name === PENDING && isPending(table));
  const functions = found.functions
    .map((each) => each.signature)
    .filter((signature) => FUNCTION_NAMES.has(signature.replace(/\(.*/, '')))
    .filter((signature) => !wanted.functions.some((each) => each.signature === signature));
  return {
    hasPending,
    steps: [
      ...(hasPending ? [drain(), replacePending(wanted, functions)] : []),
      ...(hasPending || functions.length === 0 ? [] : [dropFunctions(functions)]),
      ...found.tables.flatMap((table) => [...dropFloor(table), ...dropIndexes(table, wanted)]),
    ],
  };
}

/** Another program's table of that name is left alone. */
function isPending(table: TableShape): boolean {
  const typeOf = (name: string) => table.columns.find((column) => column.name === name)?.type;
  return typeOf('xid') === 'xid8' && typeOf('cost_microdollars') === 'bigint';
}

function drain(): Step {
  return {
    kind: 'drain_pending',
    subject: `${PENDING}, into the counter rows`,
    tables: [PENDING, 'microdollar_usage_daily', 'exa_monthly_usage', ...PAYERS],
    lock: 'none',
    duration: 'long',
    statements: [],
    work: async (client) => ((await drainPending(client)) === ROWS_PER_BATCH ? 'again' : 'done'),
  };
}

/**
 * With the table locked, no transaction that wrote to it is open, so none is left behind; whoever
 * waits for it finds it gone, and fails. Exa's allowance becomes a setting: that of the newest month.
 */
function replacePending(wanted: SchemaShape, functions: readonly string[]): Step {
  const views = inDependencyOrder(wanted.views);
  const names = views.map((view) => quote(view.name)).join(', ');
  return {
    kind: 'replace_pending',
    subject: `the rest of ${PENDING}; then that table, by positions in the log`,
    tables: [PENDING, ...views.map((view) => view.name)],
    lock: 'ACCESS EXCLUSIVE',
    duration: 'quick',
    statements: [`lock table ${PENDING} in access exclusive mode`],
    work: async (client) => {
      let left = ROWS_PER_BATCH;
      while (left > 0) left = await drainPending(client);
      const grants = await readGrants(
        client,
        views.map((view) => view.name),
      );
      for (const statement of [
        `drop view if exists ${names}`,
        `drop table ${PENDING}`,
        ...functions.map((signature) => `drop function ${signature}`),
        ...views.map((view) => `create view ${quote(view.name)} as ${view.definition}`),
        ...grants,
        `update ledger_settings as s
        set exa_free_allowance_microdollars = e.free_allowance_microdollars
        from (
          select e.free_allowance_microdollars
          from exa_monthly_usage as e
          order by e.month desc, e.created_at desc
          limit 1
        ) as e
        where s.id = 1`,
      ]) {
        await client.query(statement);
      }
      return 'done';
    },
  };
}

/** Rights on views, as statements: a view that is made anew has none. */
async function readGrants(client: pg.Client, views: readonly string[]): Promise<string[]> {
  const result = await client.query<{ statement: string }>(
    `select format('grant %s on %I to %s%s', a.privilege_type, c.relname,
        case when a.grantee = 0 then 'public' else quote_ident(r.rolname) end,
        case when a.is_grantable then ' with grant option' else '' end) as statement
    from pg_class as c
    cross join lateral aclexplode(c.relacl) as a
    left join pg_roles as r on r.oid = a.grantee
    where c.relnamespace = ${LEDGER_NAMESPACE}
      and c.relname = any($1::text[])
      and a.grantee <> c.relowner`,
    [views],
  );
  return result.rows.map((row) => row.statement);
}

function dropFunctions(signatures: readonly string[]): Step {
  return {
    kind: 'drop_function',
    subject: signatures.map((signature) => signature.replace(/\(.*/, '')).join(', '),
    tables: [],
    lock: 'none',
    duration: 'quick',
    statements: signatures.map((signature) => `drop function if exists ${signature}`),
  };
}

function dropFloor(table: TableShape): Step[] {
  const isOurs = table.columns.some((each) => each.name === FLOOR && each.type === 'xid8');
  if (!isOurs || !PAYERS.some((name) => name === table.name)) return [];
  return [
    {
      kind: 'alter_table',
      subject: `${table.name}: drop column ${FLOOR}`,
      tables: [table.name],
      lock: 'ACCESS EXCLUSIVE',
      duration: 'quick',
      statements: [`alter table ${quote(table.name)} drop column if exists ${quote(FLOOR)}`],
    },
  ];
}

function dropIndexes(table: TableShape, wanted: SchemaShape): Step[] {
  const isWanted = (name: string) =>
    wanted.tables.some((each) => each.indexes.some((index) => index.name === name));
  return table.indexes
    .filter((index) => INDEX_NAMES.has(index.name) && !isWanted(index.name))
    .map((index) => dropIndex(table.name, index.name, 'no statement reads it'));
}
