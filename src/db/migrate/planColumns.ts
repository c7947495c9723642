import { columnDefinition } from './describeShape.js';
import type { Draft } from './planAdoption.js';
import {
  fitsType,
  isNeverNull,
  isNotToBeInvented,
  isNullInOldRows,
  isOpeningBalance,
  isToBeFinite,
  isToBeWidened,
  valueBeforeUse,
  WRITTEN_TABLES,
} from './requirements.js';
import type { ColumnShape, TableShape } from './shape.js';
import { quote } from './step.js';

/**
 * Columns of a table that exists. All changes of one table are one statement, so one short lock:
 * an added column has a constant default or none, which PostgreSQL keeps in the catalog, so no
 * row is touched.
 */
export function planColumns(present: TableShape, wanted: TableShape, draft: Draft): void {
  const changes: string[] = [];
  const isKey = (name: string) =>
    wanted.constraints.some((each) => each.kind === 'primary key' && each.columns.includes(name));
  for (const column of wanted.columns) {
    const found = present.columns.find((each) => each.name === column.name);
    if (found === undefined) {
      changes.push(...addColumn(wanted.name, column, isKey(column.name), draft));
    } else {
      changes.push(...changeColumn(wanted.name, column, found, draft));
      checkOwnValues(wanted.name, column, found, draft);
      checkFinite(wanted.name, column, found, draft);
      const isNullable = !found.isNotNull && column.isNotNull;
      if (isNullable && (isKey(column.name) || isNeverNull(wanted.name, column.name))) {
        requireNotNull(wanted.name, column.name, draft);
      }
    }
  }
  for (const column of present.columns) {
    if (!wanted.columns.some((each) => each.name === column.name)) {
      changes.push(...allowForeignColumn(wanted.name, column, draft));
    }
  }
  if (changes.length === 0) return;
  draft.alterations.push({
    kind: 'alter_table',
    subject: `${wanted.name}: ${changes.map((each) => each.replaceAll('"', '')).join(', ')}`,
    tables: [wanted.name],
    lock: 'ACCESS EXCLUSIVE',
    duration: 'quick',
    statements: [`alter table ${quote(wanted.name)} ${changes.join(', ')}`],
  });
}

/** Evaluated for each row, so it would rewrite the table. */
const VOLATILE = /\b(gen_random_uuid|nextval|random|clock_timestamp)\b/;

function addColumn(table: string, column: ColumnShape, isKey: boolean, draft: Draft): string[] {
  const name = quote(column.name);
  if (isOpeningBalance(column.name)) {
    return [
      `add column ${name} ${column.type}`,
      `alter column ${name} set default ${column.default}`,
    ];
  }
  if (isNullInOldRows(table, column.name)) {
    const nullable = { ...column, default: null, isNotNull: false };
    return [`add column ${name} ${columnDefinition(nullable)}`];
  }
  const isConstant = column.default !== null && !VOLATILE.test(column.default);
  const isMissingForGood =
    isKey ||
    isNotToBeInvented(table, column.name) ||
    (column.default !== null && !isConstant) ||
    // An order that is no key is numbered by PostgreSQL, which rewrites the table: credits', a small one.
    (column.isNotNull && column.default === null && !column.isIdentity);
  if (isMissingForGood) {
    draft.problems.push(
      `${table}.${column.name} is missing (wanted: ${column.type}), and cannot be made up for ` +
        'the rows that exist; add it, with its values, first',
    );
    return [];
  }
  return [`add column ${name} ${columnDefinition(column)}`];
}

function changeColumn(
  table: string,
  wanted: ColumnShape,
  found: ColumnShape,
  draft: Draft,
): string[] {
  const place = `${table}.${wanted.name}`;
  const name = quote(wanted.name);
  if (isToBeWidened(table, wanted.type, found.type)) {
    return [`alter column ${name} type ${wanted.type}`];
  }
  if (!fitsType(table, wanted.name, wanted.type, found.type)) {
    draft.problems.push(
      `${place} is ${found.type}, and must be ${wanted.type}${remedyOf(table, wanted, found)}`,
    );
    return [];
  }
  if (wanted.isGenerated) {
    if (!found.isGenerated || found.default !== wanted.default) {
      draft.problems.push(`${place} must be ${columnDefinition(wanted)}: drop it, it is made anew`);
    }
    return [];
  }
  if (found.isGenerated) {
    draft.problems.push(`${place} is a generated column, and the ledger writes it`);
    return [];
  }
  const changes: string[] = [];
  if (found.default === null && !found.isIdentity) {
    if (wanted.isIdentity) {
      draft.problems.push(`${place} has no default, and the ledger inserts rows without it`);
    } else if (wanted.default !== null) {
      changes.push(`alter column ${name} set default ${wanted.default}`);
    }
  }
  if (found.isNotNull && !wanted.isNotNull) changes.push(`alter column ${name} drop not null`);
  return changes;
}

/**
 * A column of the ledger's name and type, in a database that is not the ledger's yet: left by an
 * adoption that was ended midway, or another program's. Only reading it tells.
 */
function checkOwnValues(
  table: string,
  wanted: ColumnShape,
  found: ColumnShape,
  draft: Draft,
): void {
  const value = valueBeforeUse(table, wanted.name);
  if (value === null || draft.isInUse || found.type !== wanted.type) return;
  const column = quote(wanted.name);
  draft.checks.push({
    kind: 'check',
    subject: `${table}.${wanted.name} is the ledger's, so unused`,
    tables: [table],
    lock: 'ACCESS SHARE',
    duration: 'long',
    statements: [
      `select count(*) as count
      from ${quote(table)}
      where ${column} is distinct from ${value}`,
    ],
    problem: (count) =>
      `${table}.${wanted.name} has values of another program in ${count} rows, and the ledger ` +
      'keeps its own there: rename that column',
  });
}

function checkFinite(table: string, wanted: ColumnShape, found: ColumnShape, draft: Draft): void {
  if (draft.isInUse || found.type !== wanted.type || !isToBeFinite(table, wanted.name)) return;
  draft.checks.push({
    kind: 'check',
    subject: `${table}.${wanted.name} has no infinite time`,
    tables: [table],
    lock: 'ACCESS SHARE',
    duration: 'long',
    statements: [
      `select count(*) as count from ${quote(table)} where not isfinite(${quote(wanted.name)})`,
    ],
    problem: (count) =>
      `${table}.${wanted.name} is infinite in ${count} rows, which no list could show: give them a time` +
      (wanted.isNotNull ? '' : ', or null'),
  });
}

/** PostgreSQL widens a text type without touching a row; any other change rewrites the table. */
function remedyOf(table: string, wanted: ColumnShape, found: ColumnShape): string {
  if (valueBeforeUse(table, wanted.name) !== null) {
    return ": the ledger keeps its own values there; rename the other program's column";
  }
  if (wanted.type !== 'text' || !found.type.startsWith('character varying')) return '';
  return `: alter table ${table} alter column ${wanted.name} type text (rewrites nothing)`;
}

/** A column that the ledger does not know and so never gives a value. */
function allowForeignColumn(table: string, column: ColumnShape, draft: Draft): string[] {
  if (!column.isNotNull || column.isGenerated) return [];
  if (column.default !== null || column.isIdentity) return [];
  const place = `${table}.${column.name}`;
  const remedy = `alter table ${table} alter column ${column.name} set default ...`;
  const problem = `${place} is NOT NULL without a default, and unknown to the ledger`;
  if (WRITTEN_TABLES.has(table)) {
    draft.problems.push(`${problem}, whose writes would fail: ${remedy}`);
  } else {
    draft.warnings.push(`${problem}, which therefore cannot create rows there: ${remedy}`);
  }
  return [];
}

/**
 * NOT NULL without a scan under a strong lock: a check that holds for new rows at once, is
 * validated beside writers, proves the NOT NULL, and goes.
 */
function requireNotNull(table: string, column: string, draft: Draft): void {
  const name = quote(column);
  draft.checks.push({
    kind: 'check',
    subject: `${table}.${column} has no null`,
    tables: [table],
    lock: 'ACCESS SHARE',
    duration: 'long',
    statements: [`select count(*) as count from ${quote(table)} where ${name} is null`],
    problem: (count) =>
      `${table}.${column} is null in ${count} rows, which would be in no total or list: ` +
      'give them a value, or delete them',
  });
  draft.constraints.push(...proveNotNull(table, column));
}

function proveNotNull(table: string, column: string): Draft['constraints'] {
  const check = quote(`${column}_not_null`);
  const alter = `alter table ${quote(table)}`;
  return [
    {
      kind: 'add_constraint',
      subject: `${table}: check that ${column} is not null, for new rows`,
      tables: [table],
      lock: 'ACCESS EXCLUSIVE',
      duration: 'quick',
      statements: [
        `${alter} drop constraint if exists ${check},
          add constraint ${check} check (${quote(column)} is not null) not valid`,
      ],
    },
    {
      kind: 'validate_constraint',
      subject: `${table}: the same for all rows`,
      tables: [table],
      lock: 'SHARE UPDATE EXCLUSIVE',
      duration: 'long',
      statements: [`${alter} validate constraint ${check}`],
    },
    {
      kind: 'alter_table',
      subject: `${table}: ${column} not null, as the check proves`,
      tables: [table],
      lock: 'ACCESS EXCLUSIVE',
      duration: 'quick',
      statements: [
        `${alter} alter column ${quote(column)} set not null`,
        `${alter} drop constraint ${check}`,
      ],
    },
  ];
}
