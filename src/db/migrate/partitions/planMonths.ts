import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { isLockConflict } from '../../sqlstate.js';
import { quote, type Step } from '../step.js';
import {
  addMonths,
  boundsOf,
  DEFAULT_PARTITION,
  type Month,
  monthOf,
  monthsBetween,
  partitionOf,
  preparingName,
  startOf,
  USAGE,
} from './months.js';
import { type PartitionState, readColumnList } from './state.js';

/** So many whole months are ahead when months were prepared; they are again when fewer are left. */
const MONTHS_AHEAD = 6;
const FEWEST_MONTHS_AHEAD = 3;
/**
 * While a month is prepared, no id of it can be written: none that begins this soon, for clocks differ,
 * and who prepares it may be ended. Ms.
 */
const TOO_SOON_MS = 2 * 86_400_000;
const LOCK_ATTEMPTS = 30;

/** Whole months that are prepared and have not begun. */
export function countMonthsAhead({ partitions, nowMs }: PartitionState): number {
  return partitions.filter(({ month }) => month !== null && startOf(month) > nowMs).length;
}

/**
 * Partitions of the months ahead, of a log that is, or will be, partitioned: made, then the default
 * partition proven to hold none of their ids, then attached. Only months that have not begun: those of
 * a month that has are in the default partition, and stay there.
 *
 *   tables of the months, empty -> a check on the default partition: no id of these months, for new
 *   rows -> validated beside writers -> attached, by that proof without a scan
 */
export function planMonths(state: PartitionState): Step[] {
  const { preparing } = state;
  if (preparing !== null) {
    const isInTime = startOf(preparing.first) > state.nowMs + TOO_SOON_MS / 2;
    if (!isInTime && !preparing.isValidated) return [takeBack(preparing.name), ...planNext(state)];
    return prepare(state, preparing.first, preparing.last, true);
  }
  return planNext(state);
}

function planNext(state: PartitionState): Step[] {
  if (countMonthsAhead(state) >= FEWEST_MONTHS_AHEAD) return [];
  const soon = addMonths(monthOf(state.nowMs + TOO_SOON_MS), 1);
  const next = state.partitions.flatMap(({ month }) => (month === null ? [] : addMonths(month, 1)));
  const first = [...next, soon].sort().at(-1) ?? soon;
  return prepare(state, first, addMonths(monthOf(state.nowMs), MONTHS_AHEAD), false);
}

/** Of steps that read it: before there is a default partition, it is the table as it is. */
export const readTables = ({ kind }: PartitionState): string[] =>
  kind === 'plain' ? [USAGE, DEFAULT_PARTITION] : [DEFAULT_PARTITION];

/** Of a run that was ended. */
export const dropTable = (name: string): string => `drop table ${quote(name)}`;

function prepare(state: PartitionState, first: Month, last: Month, isChecked: boolean): Step[] {
  const months = monthsBetween(first, last);
  const constraint = preparingName(first, last);
  const alter = `alter table ${DEFAULT_PARTITION}`;
  const [from, until] = boundsOf(first, last);
  const span = first === last ? first : `${first} to ${last}`;
  return [
    {
      kind: 'create_table',
      subject: months.map(partitionOf).join(', '),
      tables: [],
      lock: 'none',
      duration: 'quick',
      statements: [
        ...state.detached
          .filter((name) => months.some((month) => partitionOf(month) === name))
          .map(dropTable),
        ...months.map(
          (month) => `create table ${partitionOf(month)} (like ${USAGE} including all)`,
        ),
      ],
      work: async (client) => {
        for (const month of months) await takeAfterDefault(client, partitionOf(month));
        return 'done';
      },
    },
    ...(isChecked
      ? []
      : [
          {
            kind: 'add_constraint',
            subject: `${DEFAULT_PARTITION}: no id of ${span}, for new rows`,
            tables: [DEFAULT_PARTITION],
            lock: 'ACCESS EXCLUSIVE',
            duration: 'quick',
            statements: [
              // Literal bounds: attaching takes it for a proof.
              `${alter} add constraint ${quote(constraint)}
                check (id < ${from} or id >= ${until}) not valid`,
            ],
          } as const,
        ]),
    {
      kind: 'validate_constraint',
      subject: `${DEFAULT_PARTITION}: the same for all rows`,
      tables: readTables(state),
      lock: 'SHARE UPDATE EXCLUSIVE',
      duration: 'long',
      statements: [],
      // With strays it would fail: then it is done with them gone, in the transaction that moves them.
      work: async (client) => {
        if (!(await hasStrays(client, first, last))) {
          await client.query(`${alter} validate constraint ${quote(constraint)}`);
        }
        return 'done';
      },
    },
    {
      kind: 'attach_partition',
      subject: `months ${span} to ${USAGE}, each with what the default partition has of it`,
      tables: [USAGE, DEFAULT_PARTITION],
      lock: 'ACCESS EXCLUSIVE',
      duration: 'quick',
      statements: [],
      work: (client) => attach(client, months, constraint),
    },
  ];
}

/** Ids of a month whose check nobody finished in time could not be written: the default takes them. */
function takeBack(constraint: string): Step {
  return {
    kind: 'alter_table',
    subject: `${DEFAULT_PARTITION}: take ids of months that were not prepared in time`,
    tables: [DEFAULT_PARTITION],
    lock: 'ACCESS EXCLUSIVE',
    duration: 'quick',
    statements: [`alter table ${DEFAULT_PARTITION} drop constraint ${quote(constraint)}`],
  };
}

/** Storage parameters, owner and replica identity: those of the default partition. */
async function takeAfterDefault(client: pg.Client, name: string): Promise<void> {
  const { rows } = await client.query<{ options: string; owner: string; identity: string }>(
    `select array_to_string(c.reloptions, ', ') as options, quote_ident(r.rolname) as owner,
      case c.relreplident when 'n' then 'nothing' else 'default' end as identity
    from pg_class as c
    join pg_roles as r on r.oid = c.relowner
    where c.oid = to_regclass('${DEFAULT_PARTITION}')`,
  );
  const [own] = rows;
  if (own === undefined) throw new Error('there is no default partition');
  if (own.options) await client.query(`alter table ${quote(name)} set (${own.options})`);
  await client.query(`alter table ${quote(name)} replica identity ${own.identity}`);
  await client.query(`alter table ${quote(name)} owner to ${own.owner}`);
}

/** Rows of the default partition whose ids are of these months: UUIDs of other versions, by chance. */
async function hasStrays(client: pg.Client, first: Month, last: Month): Promise<boolean> {
  const [from, until] = boundsOf(first, last);
  await client.query('set local enable_seqscan = off');
  const { rows } = await client.query<{ found: boolean }>(
    `select exists (
      select from ${DEFAULT_PARTITION} where id >= ${from} and id < ${until}
    ) as found`,
  );
  return rows[0]?.found ?? false;
}

/**
 * In one transaction, so every snapshot has each row once: strays move into tables that nobody sees yet,
 * the default partition is proven to be without them, and the tables become partitions.
 */
async function attach(
  client: pg.Client,
  months: readonly Month[],
  constraint: string,
): Promise<'done'> {
  await client.query('set local enable_seqscan = off');
  const columns = await readColumnList(client);
  for (const month of months) {
    const [from, until] = boundsOf(month, month);
    await client.query(
      `with moved as (
        delete from ${DEFAULT_PARTITION} where id >= ${from} and id < ${until} returning ${columns}
      )
      insert into ${partitionOf(month)} (${columns}) select ${columns} from moved`,
    );
  }
  await client.query(`alter table ${DEFAULT_PARTITION} validate constraint ${quote(constraint)}`);
  await lockPatiently(client);
  for (const month of months) {
    const [from, until] = boundsOf(month, month);
    await client.query(
      `alter table ${USAGE} attach partition ${partitionOf(month)}
        for values from (${from}) to (${until})`,
    );
  }
  await client.query(`alter table ${DEFAULT_PARTITION} drop constraint ${quote(constraint)}`);
  return 'done';
}

/**
 * Gives way and asks again, by a savepoint: what was validated, which may have been long, is kept. The
 * partitioned table as well, though attaching asks for less: a statement that had looked up its partitions
 * already would wait for the default one, and then miss the strays, which are in one that it does not know.
 */
async function lockPatiently(client: pg.Client): Promise<void> {
  await client.query('savepoint unlocked');
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query(`lock table only ${USAGE} in access exclusive mode`);
      await client.query(`lock table only ${DEFAULT_PARTITION} in access exclusive mode`);
      return;
    } catch (error) {
      if (!isLockConflict(error) || attempt >= LOCK_ATTEMPTS) throw error;
      await client.query('rollback to savepoint unlocked');
      await sleep(50 + Math.random() * Math.min(50 * 2 ** attempt, 2_000));
    }
  }
}
