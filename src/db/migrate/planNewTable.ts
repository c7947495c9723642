import { columnDefinition } from './describeShape.js';
import type { TableShape } from './shape.js';
import { quote, type Step } from './step.js';

/** A table nobody uses yet, with all that needs no other table. */
export function createTable(table: TableShape, isAdopted: boolean): Step {
  const parts = [
    ...table.columns.map((column) => `${quote(column.name)} ${columnDefinition(column)}`),
    ...table.constraints
      .filter((each) => each.kind !== 'foreign key')
      .map((each) => `constraint ${quote(each.name)} ${each.definition}`),
  ];
  const options = table.options.length === 0 ? '' : ` with (${table.options.join(', ')})`;
  const statements = [
    `create table ${quote(table.name)} (${parts.join(', ')})${options}`,
    ...table.indexes.filter((each) => !each.isOfConstraint).map((each) => each.definition),
    ...table.statistics.map((each) => each.definition),
  ];
  if (table.name === 'ledger_settings') statements.push(settingsRow(isAdopted));
  return {
    kind: 'create_table',
    subject: table.name,
    tables: [],
    lock: 'none',
    duration: 'quick',
    statements,
  };
}

/**
 * Reads of an adopted ledger come from raw usage until the rollup is proven (I10). Where there was
 * no usage table, there was no usage: as a new installation (migrations 0001 and 0004).
 */
export function settingsRow(isAdopted: boolean): string {
  return isAdopted
    ? `insert into ledger_settings (id, read_mode, read_mode_reason, installed_empty)
      values (1, 'raw', 'adopted: the rollup is not proven yet', false)
      on conflict do nothing`
    : `insert into ledger_settings (id, read_mode, installed_empty)
      values (1, 'rollup', true)
      on conflict do nothing`;
}

/** Of one table at most, so that no transaction holds two. */
export function createTriggers(table: TableShape, present: readonly { name: string }[]): Step[] {
  const missing = table.triggers.filter(
    (trigger) => !present.some((each) => each.name === trigger.name),
  );
  if (missing.length === 0) return [];
  return [
    {
      kind: 'create_trigger',
      subject: `${missing.map((trigger) => trigger.name).join(', ')} on ${table.name}`,
      tables: [table.name],
      lock: 'SHARE ROW EXCLUSIVE',
      duration: 'quick',
      statements: missing.map((trigger) => trigger.definition),
    },
  ];
}
