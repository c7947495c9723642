import { LEDGER_NAMESPACE } from '../ledgerSchema.js';
import type { Queryable } from './journal.js';
import { quote, type Step } from './step.js';

/**
 * Rows of other programs (R7). With a default, a row that another program inserts without a
 * position is unsettled like one of the ledger's own: reported at once, and settled later. Without,
 * which is how a ledger is installed, it is in no total until `backfill` or `repair`.
 */
const LOGS = ['microdollar_usage', 'exa_usage_log'] as const;
const DEFAULT = 'microdollar_position()';

const DEFAULTS = `
select c.relname as "table"
from pg_attribute as a
join pg_class as c on c.oid = a.attrelid
join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relnamespace = ${LEDGER_NAMESPACE}
  and c.relname = any($1::text[])
  and a.attname = 'position'
  and pg_get_expr(d.adbin, d.adrelid) like '%${DEFAULT}'`;

async function readCounted(database: Queryable): Promise<string[]> {
  const result = await database.query(DEFAULTS, [LOGS]);
  return (result.rows as { table: string }[]).map((row) => row.table);
}

/** Whether usage rows of other programs are reported at once. Reads the catalog alone. */
export async function countsForeignRows(database: Queryable): Promise<boolean> {
  return (await readCounted(database)).length === LOGS.length;
}

/** What is left to do so that they are, or are not. */
export async function planForeignRows(database: Queryable, isOn: boolean): Promise<Step[]> {
  const counted = await readCounted(database);
  return LOGS.filter((table) => counted.includes(table) !== isOn).map((table) => ({
    kind: 'alter_table',
    subject: isOn
      ? `${table}: rows of other programs, from now on, are counted at once`
      : `${table}: rows of other programs, from now on, are counted by backfill or repair`,
    tables: [table],
    lock: 'ACCESS EXCLUSIVE',
    duration: 'quick',
    statements: [
      `alter table ${quote(table)} alter column position ` +
        (isOn ? `set default ${DEFAULT}` : 'drop default'),
    ],
  }));
}

/** Said before it is turned on, and where it is. */
export const DOUBLE_COUNT_WARNING =
  'a program that keeps totals itself (it inserts usage and also adds to microdollar_usage_daily ' +
  'or to a balance, as the statement before the ledger did) is counted twice while foreign rows ' +
  'are counted: run `microdollar migrate --count-foreign-rows off` while one runs';
