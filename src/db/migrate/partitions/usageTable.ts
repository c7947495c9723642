import type { Queryable } from '../journal.js';
import { DEFAULT_PARTITION } from './months.js';
import {
  CONSTRAINTS,
  DEFAULT_GRANTEES,
  DEPENDENTS,
  GRANTS,
  IN_THE_WAY,
  INDEXES,
  PUBLICATIONS,
  STATISTICS,
  TABLE,
  TRIGGERS,
} from './usageTable.sql.js';

/** What there is on the log beside its columns. Names are unquoted, except of roles. */
export interface UsageTable {
  owner: string;
  comment: string | null;
  isPermanent: boolean;
  hasPolicies: boolean;
  isInherited: boolean;
  isTyped: boolean;
  hasUsualIdentity: boolean;
  hasIdentity: boolean;
  isNameTaken: boolean;
  grants: { column: string | null; privilege: string; isGrantable: boolean; grantee: string }[];
  defaultGrantees: string[];
  indexes: {
    name: string;
    isUnique: boolean;
    isValid: boolean;
    constraint: string | null;
    hasId: boolean;
    tail: string;
  }[];
  constraints: {
    name: string;
    isForeignKey: boolean;
    definition: string;
    isWhole: boolean;
    references: string;
  }[];
  triggers: { name: string; definition: string; state: string | null; needsTable: boolean }[];
  statistics: { name: string; definition: string }[];
  /** Views and functions: what locks a view, and what makes it anew. */
  dependents: { lock: string | null; definition: string }[];
  /** What cannot be carried over, as the server describes it. */
  inTheWay: string[];
  publications: { name: string; isWell: boolean }[];
}

/** From the catalog alone. */
export async function readUsageTable(database: Queryable): Promise<UsageTable> {
  const read = async <Row>(text: string) => (await database.query(text)).rows as Row[];
  const [table] = await read<UsageTable>(TABLE);
  if (table === undefined) throw new Error('there is no table of usage');
  return {
    ...table,
    grants: await read(GRANTS),
    defaultGrantees: (await read<{ grantee: string }>(DEFAULT_GRANTEES)).map((row) => row.grantee),
    indexes: await read(INDEXES),
    constraints: await read(CONSTRAINTS),
    triggers: await read(TRIGGERS),
    statistics: await read(STATISTICS),
    dependents: await read(DEPENDENTS),
    inTheWay: (await read<{ what: string }>(IN_THE_WAY)).map((row) => row.what),
    publications: await read(PUBLICATIONS),
  };
}

/** Why this table cannot become a partition without losing something, each with its remedy. */
export function findTableProblems(table: UsageTable): string[] {
  const problem = (isSo: boolean, what: string) => (isSo ? [`microdollar_usage ${what}`] : []);
  return [
    ...problem(!table.isPermanent, 'is unlogged'),
    ...problem(table.hasPolicies, 'has row-level security: its policies would not hold any more'),
    ...problem(table.isInherited, 'inherits, or is inherited from'),
    ...problem(table.isTyped, 'is of a composite type'),
    ...problem(!table.hasUsualIdentity, 'has a replica identity of its own: set it to default'),
    ...problem(table.hasIdentity, 'has an identity column'),
    ...problem(table.isNameTaken, `would become ${DEFAULT_PARTITION}, which there is: rename that`),
    ...table.indexes.flatMap(({ name, isValid, isUnique, hasId }) => [
      ...problem(!isValid, `has an INVALID index, ${name}: drop it, or build it again`),
      ...problem(
        isUnique && !hasId,
        `has a unique index without the id, ${name}, which is one only ` +
          'over the whole of a table: drop it',
      ),
    ]),
    ...table.constraints.flatMap(({ name, isWhole }) =>
      problem(!isWhole, `has a constraint that is not validated, or not inherited, ${name}`),
    ),
    ...table.triggers.flatMap(({ name, needsTable }) =>
      problem(needsTable, `has a trigger for each row with transition tables, ${name}: drop it`),
    ),
    ...table.publications.flatMap(({ name, isWell }) =>
      problem(
        !isWell,
        `is in publication ${name}, which would tell of partitions: let it be of all ` +
          'tables, with publish_via_partition_root',
      ),
    ),
    ...table.inTheWay.map(
      (what) => `${what} holds the table itself, not its name: drop it, and create it again after`,
    ),
  ];
}
