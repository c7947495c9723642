import { planColumns } from './planColumns.js';
import { planConstraints, planForeignKeys } from './planConstraints.js';
import { planIndexes } from './planIndexes.js';
import { createTable, createTriggers } from './planNewTable.js';
import type { SchemaShape, TableShape } from './shape.js';
import { type AdoptionPlan, quote, type Step } from './step.js';

/** Steps of one plan, by the phase they belong to. */
export interface Draft {
  /** The ledger may have written: there is its index of unsettled rows. */
  isInUse: boolean;
  checks: Step[];
  alterations: Step[];
  indexes: Step[];
  constraints: Step[];
  triggers: Step[];
  problems: string[];
  warnings: string[];
}

/**
 * What is missing in `found` to hold everything of `wanted`, as steps that each leave a schema
 * in which the programs that wrote before still can. Pure: reads no database.
 *
 * Order: checks, which read, come before any change; the settings row before all tables, for it
 * notes that the database was adopted; functions after the tables they name; triggers after
 * the functions; views last.
 */
export function planAdoption(found: SchemaShape, wanted: SchemaShape): AdoptionPlan {
  const existing = new Map(found.tables.map((table) => [table.name, table]));
  const draft: Draft = {
    isInUse:
      existing
        .get('microdollar_usage')
        ?.indexes.some((index) => index.name === UNSETTLED_INDEX && index.isValid) ?? false,
    checks: [],
    alterations: [],
    indexes: [],
    constraints: [],
    triggers: [],
    problems: [],
    warnings: [],
  };
  const created: Step[] = [];
  for (const table of inCreationOrder(wanted.tables)) {
    const present = existing.get(table.name);
    if (present === undefined) {
      created.push(createTable(table, existing.has('microdollar_usage')));
      draft.triggers.push(...createTriggers(table, []));
      planForeignKeys(null, table, existing, draft);
    } else if (present.kind !== 'r') {
      draft.problems.push(`${table.name} is ${KINDS[present.kind]}, and must be a plain table`);
    } else {
      planExistingTable(present, table, existing, draft);
    }
  }
  return {
    steps: [
      ...draft.checks,
      ...created,
      ...draft.alterations,
      ...draft.indexes,
      ...draft.constraints,
      ...planFunctions(found, wanted),
      ...draft.triggers,
      ...planViews(found, wanted, existing, draft),
    ],
    problems: draft.problems,
    warnings: draft.warnings,
  };
}

const UNSETTLED_INDEX = 'idx_microdollar_usage_unsettled';

const KINDS: Readonly<Record<string, string>> = {
  p: 'a partitioned table',
  v: 'a view',
  m: 'a materialized view',
  f: 'a foreign table',
};

function planExistingTable(
  present: TableShape,
  wanted: TableShape,
  existing: ReadonlyMap<string, TableShape>,
  draft: Draft,
): void {
  planColumns(present, wanted, draft);
  planIndexes(present, wanted, draft);
  planStatistics(present, wanted, draft);
  planConstraints(present, wanted, draft);
  planForeignKeys(present, wanted, existing, draft);
  const options = wanted.options.filter(
    (option) => !present.options.some((each) => each.split('=')[0] === option.split('=')[0]),
  );
  if (options.length > 0) {
    draft.alterations.push({
      kind: 'alter_table',
      subject: `${wanted.name}: set ${options.join(', ')}`,
      tables: [wanted.name],
      lock: 'SHARE UPDATE EXCLUSIVE',
      duration: 'quick',
      statements: [`alter table ${quote(wanted.name)} set (${options.join(', ')})`],
    });
  }
  for (const trigger of wanted.triggers) {
    const other = present.triggers.find((each) => each.name === trigger.name);
    if (other !== undefined && other.definition !== trigger.definition) {
      draft.problems.push(
        `${wanted.name} has another trigger named ${trigger.name}: rename or drop it`,
      );
    }
  }
  draft.triggers.push(...createTriggers(wanted, present.triggers));
}

/** For the planner alone: one of the same name is left as it is. */
function planStatistics(present: TableShape, wanted: TableShape, draft: Draft): void {
  const missing = wanted.statistics.filter(
    ({ name }) => !present.statistics.some((each) => each.name === name),
  );
  if (missing.length === 0) return;
  draft.indexes.push({
    kind: 'create_statistics',
    subject: missing.map(({ name }) => name).join(', '),
    tables: [wanted.name],
    lock: 'SHARE UPDATE EXCLUSIVE',
    duration: 'quick',
    statements: missing.map(({ definition }) => definition),
  });
}

function inCreationOrder(tables: readonly TableShape[]): TableShape[] {
  const first = (table: TableShape) => table.name === 'ledger_settings';
  const plain = tables.filter((table) => table.kind === 'r');
  return [...plain.filter(first), ...plain.filter((table) => !first(table))];
}

function planFunctions(found: SchemaShape, wanted: SchemaShape): Step[] {
  const known = new Map(found.functions.map((each) => [each.signature, each.definition]));
  const missing = wanted.functions.filter((each) => known.get(each.signature) !== each.definition);
  if (missing.length === 0) return [];
  return [
    {
      kind: 'create_function',
      subject: missing.map((each) => each.signature.replace(/\(.*/, '')).join(', '),
      tables: [],
      lock: 'none',
      duration: 'quick',
      // They may name each other, in any order.
      statements: [
        'set local check_function_bodies = off',
        ...missing.map((each) => each.definition),
      ],
    },
  ];
}

function planViews(
  found: SchemaShape,
  wanted: SchemaShape,
  existing: ReadonlyMap<string, TableShape>,
  draft: Draft,
): Step[] {
  const steps: Step[] = [];
  for (const view of inDependencyOrder(wanted.views)) {
    if (found.views.some((each) => each.name === view.name)) continue;
    if (existing.has(view.name)) draft.problems.push(`${view.name} exists, and is not a view`);
    steps.push({
      kind: 'create_view',
      subject: view.name,
      tables: [],
      lock: 'ACCESS SHARE',
      duration: 'quick',
      statements: [`create view ${quote(view.name)} as ${view.definition}`],
    });
  }
  return steps;
}

/** A view comes after those that it names. */
export function inDependencyOrder<View extends { name: string; definition: string }>(
  views: readonly View[],
): View[] {
  const names = (view: View, other: View) =>
    view !== other && new RegExp(`\\b${other.name}\\b`).test(view.definition);
  const ordered: View[] = [];
  const left = new Set(views);
  while (left.size > 0) {
    const free = [...left].filter((view) => ![...left].some((other) => names(view, other)));
    if (free.length === 0) throw new Error('views name each other in a circle');
    for (const view of free) {
      left.delete(view);
      ordered.push(view);
    }
  }
  return ordered;
}
