import type pg from 'pg';
import { LedgerError } from '../../../errors.js';
import { quote, type Step } from '../step.js';
import { DEFAULT_PARTITION, USAGE } from './months.js';
import type { UsageTable } from './usageTable.js';
import { MADE } from './usageTable.sql.js';

const MAX_NAME_BYTES = 63;
const SUFFIX = '_default';

/**
 * The table becomes the default partition of a new one, which takes its name and everything on it: one
 * transaction that changes the catalog alone. Rows stay where they are, and indexes are attached, not
 * built. Views and functions are made anew in their place, so whatever hangs on them stays.
 */
export function swap(table: UsageTable): Step {
  const foreignKeys = table.constraints.filter((each) => each.isForeignKey);
  return {
    kind: 'partition_table',
    subject: `${USAGE} by its id; the table as it is becomes ${DEFAULT_PARTITION}`,
    tables: [USAGE, ...foreignKeys.map((each) => each.references)],
    lock: 'ACCESS EXCLUSIVE',
    duration: 'quick',
    statements: [
      // Views first, as who reads one locks it before the table.
      ...table.dependents.flatMap(({ lock }) => lock ?? []),
      `lock table ${USAGE} in access exclusive mode`,
      ...table.triggers.map(({ name }) => `drop trigger ${quote(name)} on ${USAGE}`),
      `alter table ${USAGE} rename to ${DEFAULT_PARTITION}`,
      ...table.indexes.map(
        ({ name }) => `alter index ${quote(name)} rename to ${quote(aside(name))}`,
      ),
      ...table.statistics.map(
        ({ name }) => `alter statistics ${quote(name)} rename to ${quote(aside(name))}`,
      ),
      `create table ${USAGE} (like ${DEFAULT_PARTITION} including comments including compression
        including constraints including defaults including generated including storage)
      partition by range (id)`,
      `alter table ${USAGE} owner to ${quote(table.owner)}`,
      ...(table.comment === null ? [] : [`comment on table ${USAGE} is ${literal(table.comment)}`]),
      ...table.indexes.map(createIndex),
      ...foreignKeys.map(
        ({ name, definition }) =>
          `alter table ${USAGE} add constraint ${quote(name)} ${definition}`,
      ),
      ...table.statistics.map(({ definition }) => definition),
      `alter table ${USAGE} attach partition ${DEFAULT_PARTITION} default`,
      ...table.triggers.flatMap(createTrigger),
      ...table.dependents.map(({ definition }) => definition),
      ...table.defaultGrantees.map((grantee) => `revoke all on ${USAGE} from ${grantee}`),
      ...table.grants.map(grant),
    ],
    work: proveSwap,
  };
}

/** The name of what stays with the old table, which leaves its own to the new one. */
function aside(name: string): string {
  const bytes = Buffer.from(name).subarray(0, MAX_NAME_BYTES - SUFFIX.length);
  return `${bytes.toString().replace(/\uFFFD+$/, '')}${SUFFIX}`;
}

function createIndex({ name, constraint, isUnique, tail }: UsageTable['indexes'][number]): string {
  if (constraint !== null) {
    return `alter table ${USAGE} add constraint ${quote(name)} ${constraint}`;
  }
  return `create ${isUnique ? 'unique ' : ''}index ${quote(name)} on ${USAGE}${tail}`;
}

function createTrigger({ name, definition, state }: UsageTable['triggers'][number]): string[] {
  if (state === null) return [definition];
  return [definition, `alter table ${USAGE} ${state} trigger ${quote(name)}`];
}

function grant({ column, privilege, isGrantable, grantee }: UsageTable['grants'][number]): string {
  const columns = column === null ? '' : ` (${column})`;
  const option = isGrantable ? ' with grant option' : '';
  return `grant ${privilege}${columns} on ${USAGE} to ${grantee}${option}`;
}

const literal = (text: string) => `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

interface Made {
  wanted: number;
  present: number;
  attached: number;
  differences: string[];
  held: string[];
}

/**
 * By the catalog, before the commit: what was planned was read without a lock.
 * @throws LedgerError `unavailable`; nothing is changed then
 */
async function proveSwap(client: pg.Client): Promise<'done'> {
  const result = await client.query<Made>(MADE(DEFAULT_PARTITION));
  const [made] = result.rows;
  const isSame =
    made !== undefined &&
    made.attached === made.wanted &&
    made.present === made.wanted &&
    made.differences.length + made.held.length === 0;
  if (isSame) return 'done';
  throw new LedgerError(
    'unavailable',
    `${USAGE} was changed while it was to be partitioned, and is as it was: run ` +
      '`microdollar migrate --partition-by-id` again',
    { details: { ...made } },
  );
}
