import { setTimeout as sleep } from 'node:timers/promises';
import type { Step } from './step.js';

/**
 * Takes leave of sessions that may have cached the base of their positions
 * (functions/microdollar_generation.sql), before the generation is raised: what they append with the
 * old one would lie below marks of the new one, so in no total.
 *
 * 1. `position_seen` is set beyond every transaction id, so that whoever asks for the base from
 *    then on is told that the cluster is unknown: writes are exact, unsettled, and cache nothing.
 * 2. The moment after that commit is noted, once: a session that began later has no base.
 * 3. Older sessions, and what they prepared, are waited for. While any are left nothing is
 *    raised, and the next run waits for the same ones.
 */
export interface OlderSessions {
  haveLeft: boolean;
}

const WAIT_FOR_SESSIONS_MS = 5_000;
const MAX_NAMED = 10;

/** No transaction id comes near. The lower of them: the moment is not noted yet. */
const BASE = '(greatest(s.generation, s.position_seen >> 44) << 44)';
const HELD = `(${BASE} | 17592186044414)`;
const HELD_SINCE = `(${BASE} | 17592186044415)`;

/** A commit each: the moment must lie behind the first one's. */
const HOLD = `
update ledger_settings as s
set position_seen = ${HELD}
where s.id = 1
  and s.position_seen not in (${HELD}, ${HELD_SINCE})`;
const NOTE_MOMENT = `
update ledger_settings as s
set position_seen = ${HELD_SINCE}, updated_at = clock_timestamp()
where s.id = 1
  and s.position_seen = ${HELD}`;

export function holdPositions(): Step {
  return {
    kind: 'hold_positions',
    subject: 'what is written stays unsettled until the generation is raised',
    tables: ['ledger_settings'],
    lock: 'none',
    duration: 'quick',
    statements: [],
    work: async (client) => {
      if ((await client.query(HOLD)).rowCount) return 'again';
      await client.query(NOTE_MOMENT);
      return 'done';
    },
  };
}

/**
 * Other changes of the settings make the moment later, which is on the safe side; so are sessions of
 * roles of which this one may not see when they began.
 */
const OLDER = `
select 'pid ' || a.pid as name
from pg_stat_activity as a
cross join ledger_settings as s
where a.datid = (select d.oid from pg_database as d where d.datname = current_database())
  and a.usesysid is not null
  and a.pid <> pg_backend_pid()
  and (a.backend_start is null or a.backend_start <= s.updated_at)
union all
select 'prepared transaction ' || p.gid
from pg_prepared_xacts as p
cross join ledger_settings as s
where p.database = current_database()
  and p.prepared <= s.updated_at
order by 1`;

export function waitForOlderSessions(older: OlderSessions, warnings: string[]): Step {
  let deadlineMs = 0;
  return {
    kind: 'wait',
    subject: 'for sessions that began before positions were held',
    tables: [],
    lock: 'none',
    duration: 'quick',
    statements: [],
    work: async (client) => {
      deadlineMs ||= performance.now() + WAIT_FOR_SESSIONS_MS;
      const names = (await client.query<{ name: string }>(OLDER)).rows.map((row) => row.name);
      older.haveLeft = names.length === 0;
      if (older.haveLeft) return 'done';
      if (performance.now() < deadlineMs) {
        await sleep(100);
        return 'again';
      }
      warnings.push(warnOf(names));
      return 'done';
    },
  };
}

function warnOf(names: readonly string[]): string {
  const more = names.length > MAX_NAMED ? ` and ${names.length - MAX_NAMED} more` : '';
  return (
    'transaction ids are not those of the data, and sessions from before this was known are still ' +
    `there: ${names.slice(0, MAX_NAMED).join(', ')}${more}. Positions stay as they are; what others ` +
    'write is exact, and not settled. Restart the programs that write, or end those sessions, then ' +
    'run `microdollar migrate` again'
  );
}

/** The step, if those sessions have left; else nothing. */
export function onceTheyHaveLeft(older: OlderSessions, step: Step): Step {
  return {
    ...step,
    statements: [],
    work: async (client) => {
      if (!older.haveLeft) return 'done';
      for (const statement of step.statements) await client.query(statement);
      return (await step.work?.(client)) ?? 'done';
    },
  };
}
