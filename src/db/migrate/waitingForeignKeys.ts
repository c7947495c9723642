import { CONSTRAINTS } from './catalog.sql.js';
import type { Queryable } from './journal.js';
import { makesWritesWait } from './requirements.js';
import { quote, type Step } from './step.js';

/** A foreign key through which a usage write would wait for whoever locks the parent row (I4). */
export interface WaitingForeignKey {
  table: string;
  name: string;
  referencedTable: string;
}

interface ConstraintRow {
  table: string;
  name: string;
  referencedTable: string | null;
}

/** Reads the catalog alone. */
export async function findWaitingForeignKeys(database: Queryable): Promise<WaitingForeignKey[]> {
  const constraints = (await database.query(CONSTRAINTS)).rows as ConstraintRow[];
  return constraints.flatMap(({ table, name, referencedTable }) =>
    referencedTable !== null && makesWritesWait(table, referencedTable)
      ? [{ table, name, referencedTable }]
      : [],
  );
}

/** One warning a table. */
export function warnOfForeignKeys(keys: readonly WaitingForeignKey[]): string[] {
  const tables = [...new Set(keys.map((key) => key.table))];
  return tables.map((table) => {
    const own = keys.filter((key) => key.table === table);
    return (
      `foreign keys of ${table} (${own.map((key) => key.name).join(', ')}): each usage write locks ` +
      `a row of ${own.map((key) => key.referencedTable).join(', ')}, so it waits for whoever holds ` +
      'that row; drop them with `microdollar migrate --drop-foreign-keys`'
    );
  });
}

export function dropForeignKey(key: WaitingForeignKey): Step {
  return {
    kind: 'drop_foreign_key',
    subject: `${key.name} of ${key.table}: usage writes would wait for ${key.referencedTable}`,
    tables: [key.table, key.referencedTable],
    lock: 'ACCESS EXCLUSIVE',
    duration: 'quick',
    statements: [`alter table ${quote(key.table)} drop constraint if exists ${quote(key.name)}`],
  };
}
