import type { Draft } from './planAdoption.js';
import type { IndexShape, TableShape } from './shape.js';
import { quote, type Step } from './step.js';

/**
 * Indexes of a table that exists, whatever their names: one that serves is enough. Those of
 * primary keys and unique constraints too, as plain unique indexes: a table has one primary key.
 */
export function planIndexes(present: TableShape, wanted: TableShape, draft: Draft): void {
  const lacksColumn = (index: IndexShape) => index.keys.some((key) => !hasColumn(wanted, key));
  for (const index of wanted.indexes) {
    if (present.indexes.some((each) => serves(each, index))) continue;
    const sameName = present.indexes.find((each) => each.name === index.name);
    if (sameName?.isValid) {
      draft.problems.push(
        `${present.name} has another index named ${index.name} (${sameName.definition}): rename it`,
      );
      continue;
    }
    if (lacksColumn(index)) throw new Error(`index ${index.name} is not on plain columns`);
    // A column that is still to come is null in every row: nothing repeats.
    const isNew = index.keys.some((key) => !hasColumn(present, key));
    if (index.isUnique && !isNew) draft.checks.push(checkDuplicates(wanted.name, index));
    if (sameName !== undefined) draft.indexes.push(dropInvalid(wanted.name, index.name));
    draft.indexes.push({
      kind: 'create_index',
      subject: index.name,
      tables: [wanted.name],
      lock: 'SHARE UPDATE EXCLUSIVE',
      duration: 'long',
      isConcurrent: true,
      statements: [
        index.definition.replace(
          /^CREATE (UNIQUE )?INDEX /,
          'CREATE $1INDEX CONCURRENTLY IF NOT EXISTS ',
        ),
      ],
    });
  }
}

function hasColumn({ columns }: TableShape, key: string): boolean {
  return columns.some((column) => column.name === key.replaceAll('"', ''));
}

export function dropInvalid(table: string, index: string): Step {
  return {
    kind: 'drop_index',
    subject: `${index}, INVALID: left by a build that failed`,
    tables: [table],
    lock: 'SHARE UPDATE EXCLUSIVE',
    duration: 'quick',
    isConcurrent: true,
    statements: [`drop index concurrently if exists ${quote(index)}`],
  };
}

/**
 * Whether statements that need `wanted` can use `found`. A unique one must be the same, in any
 * order; another may have more key columns behind. A full index serves for a partial one only
 * where the predicate leaves out null keys: else it finds few rows among all.
 */
export function serves(found: IndexShape, wanted: IndexShape): boolean {
  if (!found.isValid || found.method !== wanted.method) return false;
  if (wanted.isUnique) {
    return (
      found.isUnique &&
      found.predicate === wanted.predicate &&
      found.keys.length === wanted.keys.length &&
      wanted.keys.every((key) => found.keys.includes(key))
    );
  }
  const isFullEnough =
    found.predicate === null && wanted.predicate === `(${wanted.keys[0]} IS NOT NULL)`;
  return (
    (found.predicate === wanted.predicate || isFullEnough) &&
    wanted.keys.every((key, place) => found.keys[place] === key)
  );
}

/** NULL never conflicts, so rows with a null key are no duplicates. */
function checkDuplicates(table: string, index: IndexShape): Step {
  const conditions = [
    ...index.keys.map((key) => `${key} is not null`),
    ...(index.predicate === null ? [] : [index.predicate]),
  ];
  const keys = index.keys.join(', ');
  const scope = index.predicate === null ? '' : ` where ${index.predicate}`;
  return {
    kind: 'check',
    subject: `${table} has no duplicates of (${keys})${scope}`,
    tables: [table],
    lock: 'ACCESS SHARE',
    duration: 'long',
    statements: [
      `select count(*) as count
      from (
        select from ${quote(table)}
        where ${conditions.join(' and ')}
        group by ${keys}
        having count(*) > 1
      ) as duplicates`,
    ],
    problem: (count) =>
      `${table} has duplicates: ${count} keys (${keys})${scope} have more than one row, and the ` +
      `unique index ${index.name} needs one each; merge or delete the others`,
  };
}
