import { setTimeout as sleep } from 'node:timers/promises';
import { EXA_LOG, PAYER_SCOPES, UNKNOWN_GENERATION, USAGE_LOG } from '../../schema/unsettled.js';
import { isNotPermitted } from '../sqlstate.js';
import type { Queryable } from './journal.js';
import {
  holdPositions,
  type OlderSessions,
  onceTheyHaveLeft,
  waitForOlderSessions,
} from './olderSessions.js';
import { restamp } from './restampRows.js';
import type { Step } from './step.js';

/**
 * The generation of positions (R6). A position is (generation << 44) | transaction id, so it means
 * something only in the cluster whose ids it is made of. `ledger_settings` names that cluster, and
 * a position that it has reached:
 *
 * - Dump and restore, or a logical replica made primary: another identifier. Ids may be smaller
 *   than those in marks, and a row written with such an id would count as settled, though it is not.
 * - A physical copy that took in a dump of the original: the same identifier, but its ids have not
 *   reached `position_seen`, or a payer's mark.
 * - pg_upgrade: another identifier, though ids go on. A new generation is not needed, and does
 *   no harm.
 * - A physical copy, a promoted standby, recovery to a point in time: the same identifier, and marks
 *   and ids of one moment. Nothing to do.
 *
 * Until `migrate` raises the generation, `microdollar_generation()` gives positions above every
 * mark: what is written is reported exactly, and not settled. Where the identifier is the same, or
 * is not told, sessions may have asked it before; they must leave first (olderSessions.ts).
 *
 * Marks, exceptions and rows of older generations stay as they are: every position of a new
 * generation lies above all of them, so a row from before is settled or not as it was where it came
 * from, and counts as ended in whatever snapshot: what a dump holds was committed.
 */

/** Below its barrier a soft delete is not noted yet: above every id, and of no cluster. */
const NO_BARRIER = '18446744073709551615';

const WAIT_FOR_OLDER_MS = 5_000;

/**
 * Whether the ledger knows this cluster. Where it does not (a restored dump, a logical replica made
 * primary), writes stay exact and reads too, but nothing is settled, so both slow down as usage
 * gathers: say so, and name the remedy, `microdollar migrate`. One read of `ledger_settings`; needs
 * no right but to read it.
 */
export async function isKnownCluster(database: Queryable): Promise<boolean> {
  const result = await database.query(
    `select microdollar_generation() < ${UNKNOWN_GENERATION} as known`,
  );
  return (result.rows[0] as { known: boolean }).known;
}

/** What to say where it is not. */
export const UNKNOWN_CLUSTER =
  'this cluster is not the one the ledger was migrated in: usage is exact, and not settled; ' +
  'run `microdollar migrate`';

interface ClusterState {
  /** Of this cluster; null where the server does not tell it to this role. */
  present: string | null;
  /** Of the cluster that positions were made in; null: not noted yet. */
  known: string | null;
  generation: string;
  isElsewhere: boolean;
  /** By its identifier: then no session has cached a base of its positions. */
  isOther: boolean;
  /** A raise that was ended midway, or that older transactions have outlived. */
  isUnfinished: boolean;
}

/** Ids of another cluster may come without the settings row, so payers are read too. */
const STATE = `
select s.system_identifier as known, s.generation::text as generation,
  s.generation_raised_xid is not null as "isUnfinished",
  now.position < s.position_seen
    or exists (
      select from kilocode_users as u
      where greatest(u.settled_below, u.exa_settled_below) > now.position
        or (u.scrub_after_xid > now.xid and u.scrub_after_xid <> '${NO_BARRIER}'))
    or exists (
      select from organizations as o
      where greatest(o.settled_below, o.exa_settled_below) > now.position)
    or exists (select from rollup_marks as k where k.settled_below > now.position) as "isAhead"
from ledger_settings as s
cross join lateral (
  select pg_snapshot_xmax(pg_current_snapshot()) as xid,
    (s.generation << 44) + txid_snapshot_xmax(txid_current_snapshot()) as position
) as now
where s.id = 1`;

async function readState(database: Queryable): Promise<ClusterState> {
  const present = await readIdentifier(database);
  const result = await database.query(STATE);
  const row = result.rows[0] as Omit<ClusterState, 'present' | 'isOther'> & { isAhead: boolean };
  const isOther = present !== null && row.known !== null && present !== row.known;
  return { ...row, present, isOther, isElsewhere: isOther || row.isAhead };
}

async function readIdentifier(database: Queryable): Promise<string | null> {
  try {
    const result = await database.query(
      'select system_identifier::text as identifier from pg_control_system()',
    );
    return (result.rows[0] as { identifier: string }).identifier;
  } catch (error) {
    if (isNotPermitted(error)) return null;
    throw error;
  }
}

/** What is left to do so that positions are of this cluster; empty where they are. */
export async function planGeneration(
  database: Queryable,
  warnings: string[] = [],
): Promise<Step[]> {
  const { present, known, generation, isOther, isElsewhere, isUnfinished } =
    await readState(database);
  if (!isElsewhere && !isUnfinished) {
    return present === null || present === known ? [] : [noteCluster(present)];
  }
  const older: Older = { haveEnded: false };
  const steps = [
    ...(isElsewhere ? [raiseGeneration(generation, present)] : []),
    waitForOlder(older, warnings),
    ...[USAGE_LOG, EXA_LOG].flatMap((log) => PAYER_SCOPES.map((scope) => restamp(log, scope))),
    finishRaise(older),
  ];
  if (isOther || !isElsewhere) return steps;
  const sessions: OlderSessions = { haveLeft: false };
  return [
    holdPositions(),
    waitForOlderSessions(sessions, warnings),
    ...steps.map((step) => onceTheyHaveLeft(sessions, step)),
  ];
}

function noteCluster(identifier: string): Step {
  return {
    kind: 'note_cluster',
    subject: `positions are of cluster ${identifier}`,
    tables: ['ledger_settings'],
    lock: 'none',
    duration: 'quick',
    statements: [
      `update ledger_settings
      set system_identifier = '${identifier}', updated_at = now()
      where id = 1`,
    ],
  };
}

/**
 * All or nothing: from its commit on, writes have positions of the new generation, and the cluster
 * is known. Above every generation that marks name, for a dump may hold newer ones than the settings.
 */
function raiseGeneration(from: string, identifier: string | null): Step {
  const mark = (table: string) =>
    `(select coalesce(max(greatest(p.settled_below, p.exa_settled_below)), 0) from ${table} as p)`;
  return {
    kind: 'raise_generation',
    subject: `positions above generation ${from}: transaction ids are of another cluster`,
    tables: ['ledger_settings', 'kilocode_users'],
    lock: 'none',
    duration: 'quick',
    statements: [
      `with next as materialized (
        select 1 + greatest(s.generation, s.position_seen >> 44,
          ${mark('kilocode_users')} >> 44, ${mark('organizations')} >> 44,
          (select coalesce(max(k.settled_below), 0) from rollup_marks as k) >> 44) as generation
        from ledger_settings as s
        where s.id = 1
      )
      update ledger_settings as s
      set generation = next.generation,
        system_identifier = ${identifier === null ? 's.system_identifier' : `'${identifier}'`},
        position_seen = (next.generation << 44) + txid_current(),
        settled_everywhere_below = 0,
        generation_raised_xid = pg_current_xact_id(),
        updated_at = now()
      from next
      where s.id = 1`,
      `update kilocode_users
      set scrub_after_xid = pg_current_xact_id()
      where scrub_after_xid is not null`,
    ],
  };
}

/**
 * Raises it in the caller's transaction, before which nobody could have written in this cluster
 * (citus/localSchema.ts): there is no older session to wait for, and nothing to restamp.
 */
export async function raiseAlone(database: Queryable): Promise<void> {
  const { rows } = await database.query(
    `select case when has_function_privilege('pg_control_system()', 'execute')
      then (select c.system_identifier::text from pg_control_system() as c) end as identifier`,
  );
  const { identifier } = rows[0] as { identifier: string | null };
  const { statements } = raiseGeneration('of another node', identifier);
  for (const statement of [...statements, FINISH]) await database.query(statement);
}

const FINISH = 'update ledger_settings set generation_raised_xid = null where id = 1';

/** Transactions that have written to a log and are open, those of other roles too. */
const WRITERS = `
select coalesce(array_agg(distinct l.virtualtransaction), '{}') as ids
from pg_locks as l
where l.locktype = 'relation'
  and l.database = (select d.oid from pg_database as d where d.datname = current_database())
  and l.relation in ('microdollar_usage'::regclass, 'exa_usage_log'::regclass)
  and l.mode = 'RowExclusiveLock'
  and l.pid is distinct from pg_backend_pid()`;

/** Whether those have ended, and whoever may still write by a snapshot from before. */
const HAVE_ENDED = `
select not exists (select from pg_locks as l where l.virtualtransaction = any ($1::text[]))
  and not exists (
    select from pg_stat_activity as a
    cross join ledger_settings as s
    where a.datname = current_database()
      and a.pid <> pg_backend_pid()
      and age(a.backend_xmin) >= age(s.generation_raised_xid::xid)) as "haveEnded"`;

interface Older {
  haveEnded: boolean;
}

/** What they write yet has a position above every mark, so it must not be restamped too early. */
function waitForOlder(older: Older, warnings: string[]): Step {
  let writers: string[] | null = null;
  let deadlineMs = 0;
  return {
    kind: 'wait',
    subject: 'for transactions that began before the generation was raised',
    tables: [],
    lock: 'none',
    duration: 'quick',
    statements: [],
    work: async (client) => {
      deadlineMs ||= performance.now() + WAIT_FOR_OLDER_MS;
      writers ??= (await client.query<{ ids: string[] }>(WRITERS)).rows[0]?.ids ?? [];
      const result = await client.query<Older>(HAVE_ENDED, [writers]);
      older.haveEnded = result.rows[0]?.haveEnded ?? false;
      if (older.haveEnded) return 'done';
      if (performance.now() < deadlineMs) {
        await sleep(100);
        return 'again';
      }
      warnings.push(
        'transactions from before the generation was raised are still open: what they write is ' +
          'exact, but not settled until `microdollar migrate` is run again after they have ended',
      );
      return 'done';
    },
  };
}

/** What had been written before the restamping began has its position: nothing is left to do. */
function finishRaise(older: Older): Step {
  return {
    kind: 'finish',
    subject: 'positions are of this cluster',
    tables: ['ledger_settings'],
    lock: 'none',
    duration: 'quick',
    statements: [],
    work: async (client) => {
      if (older.haveEnded) {
        await client.query(FINISH);
      }
      return 'done';
    },
  };
}
