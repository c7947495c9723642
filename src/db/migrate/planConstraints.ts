import type { Draft } from './planAdoption.js';
import type { ConstraintShape, TableShape } from './shape.js';
import { quote, type Step } from './step.js';

/** Checks of a table that exists: for new rows at once, then validated beside writers. */
export function planConstraints(present: TableShape, wanted: TableShape, draft: Draft): void {
  for (const constraint of wanted.constraints) {
    if (constraint.kind !== 'check') continue;
    addInTwoSteps(present, [wanted.name], constraint, draft);
  }
}

/** Foreign keys that are wanted: of memberships. `present` null: the table is new, so empty. */
export function planForeignKeys(
  present: TableShape | null,
  wanted: TableShape,
  existing: ReadonlyMap<string, TableShape>,
  draft: Draft,
): void {
  for (const constraint of wanted.constraints) {
    const { references } = constraint;
    if (references === null) continue;
    const isThere = present?.constraints.some(
      (each) =>
        each.references?.table === references.table &&
        each.columns.join() === constraint.columns.join() &&
        each.isValidated,
    );
    if (isThere) continue;
    if (present !== null && existing.has(references.table)) {
      draft.checks.push(checkOrphans(wanted.name, constraint, references));
    }
    addInTwoSteps(present, [wanted.name, references.table], constraint, draft);
  }
}

function addInTwoSteps(
  present: TableShape | null,
  tables: readonly string[],
  constraint: ConstraintShape,
  draft: Draft,
): void {
  const [table = ''] = tables;
  const same = present?.constraints.find((each) => each.name === constraint.name);
  const isForeignKey = constraint.kind === 'foreign key';
  if (same?.isValidated) return;
  if (same === undefined) {
    draft.constraints.push({
      kind: 'add_constraint',
      subject: `${constraint.name} on ${table}, for new rows`,
      tables,
      lock: isForeignKey ? 'SHARE ROW EXCLUSIVE' : 'ACCESS EXCLUSIVE',
      duration: 'quick',
      statements: [
        `alter table ${quote(table)} add constraint ${quote(constraint.name)} ` +
          `${constraint.definition} not valid`,
      ],
    });
  }
  draft.constraints.push({
    kind: 'validate_constraint',
    subject: `${constraint.name} on ${table}, for all rows`,
    tables: [table],
    lock: 'SHARE UPDATE EXCLUSIVE',
    duration: 'long',
    statements: [`alter table ${quote(table)} validate constraint ${quote(constraint.name)}`],
  });
}

function checkOrphans(
  table: string,
  constraint: ConstraintShape,
  references: { table: string; columns: string[] },
): Step {
  const joined = constraint.columns
    .map((column, place) => `p.${quote(references.columns[place] ?? '')} = c.${quote(column)}`)
    .join(' and ');
  const given = constraint.columns.map((column) => `c.${quote(column)} is not null`).join(' and ');
  return {
    kind: 'check',
    subject: `every row of ${table} has its row of ${references.table}`,
    tables: [table, references.table],
    lock: 'ACCESS SHARE',
    duration: 'long',
    statements: [
      `select count(*) as count
      from ${quote(table)} as c
      where ${given}
        and not exists (select from ${quote(references.table)} as p where ${joined})`,
    ],
    problem: (count) =>
      `${count} rows of ${table} name no row of ${references.table} ` +
      `(${constraint.columns.join(', ')}): delete them, or add what they name`,
  };
}
