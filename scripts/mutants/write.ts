import type { Mutant } from './mutant.js';

const BATCH = 'src/record/appendBatch.sql.ts';
const APPEND = 'src/record/appendUsage.sql.ts';
const IN_PLACE = 'src/record/inPlace.sql.ts';
const TWINS = 'src/record/twins.ts';
const RECORDER = 'src/record/recorder.ts';

/** What an append writes, refuses and answers. */
export const WRITE_MUTANTS: readonly Mutant[] = [
  {
    name: 'batch: an event exactly at the horizon is refused',
    file: BATCH,
    search: 'e.created_at >= coalesce(',
    replace: 'e.created_at > coalesce(',
    tests: ['integration/archiveHorizon'],
  },
  {
    name: 'append: an event exactly at the horizon is refused',
    file: APPEND,
    search: "${usageParameter('created_at')} >= coalesce(",
    replace: "${usageParameter('created_at')} > coalesce(",
    tests: ['integration/archiveHorizon'],
  },
  {
    name: 'explain: an event exactly at the horizon is called archived',
    file: 'src/record/explainUsage.sql.ts',
    search: 'when e.created_at < (select',
    replace: 'when e.created_at <= (select',
    tests: ['integration/archiveHorizon'],
    changesNothing: 'such an event is inserted, or met by its row, before anybody asks why not',
  },
  {
    name: 'batch: a negative cost has no position',
    file: BATCH,
    search: 'case when e.cost <> 0 then',
    replace: 'case when e.cost > 0 then',
    tests: ['integration/record', 'integration/exactlyOnce'],
  },
  {
    name: 'append: a negative cost counts as settled',
    file: APPEND,
    search: "${usageParameter('cost')} <> 0 then 1 else -1",
    replace: "${usageParameter('cost')} > 0 then 1 else -1",
    tests: ['integration/seedChecks', 'integration/record'],
  },
  {
    name: 'batch: ids in the order of arrival',
    file: BATCH,
    search: 'return [...events.keys()].sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1));',
    replace: 'return idOf(0) ? [...events.keys()] : [];',
    tests: ['unit/statement', 'integration/exactlyOnce'],
  },
  {
    name: 'batch: a replay is written again',
    file: BATCH,
    search: '  on conflict (id) do nothing',
    replace: '  on conflict (id) do update set has_error = excluded.has_error',
    tests: ['integration/exactlyOnce'],
  },
  {
    name: 'batch: metadata of a replay is written',
    file: BATCH,
    search: 'and m.id in (select w.id from usage_written as w)',
    replace: '',
    tests: ['integration/exactlyOnce'],
  },
  {
    name: 'batch: metadata of a deleted user is written',
    file: BATCH,
    search: 'and u.deleted_at is not null',
    replace: 'and false',
    tests: ['integration/softDelete'],
  },
  {
    name: 'append: metadata of a deleted user is written',
    file: APPEND,
    search: '(select u.deleted_at from kilocode_users as u where u.id = $2::text) is null',
    replace: 'true',
    tests: ['integration/softDelete'],
  },
  {
    name: 'batch: one event that was not new is not told from the others',
    file: BATCH,
    search: 'case when count(*) < ${COUNT} then',
    replace: 'case when count(*) + 1 < ${COUNT} then',
    tests: ['integration/record', 'integration/exactlyOnce'],
  },
  {
    name: 'replay: its time is not compared',
    file: 'src/record/usageColumns.ts',
    search: '\n      and (e.created_at is null or m.created_at = e.created_at)',
    replace: '',
    tests: ['integration/exactlyOnce'],
  },
  {
    name: 'recorder: what was believed survives a lost connection',
    file: RECORDER,
    search: 'if (!STATEMENT_STATES.has(cause)) this.forget();',
    replace: '',
    tests: ['unit/recorder', 'integration/lookups', 'faults/replica'],
  },
  {
    name: 'ledger: settles only what raises a total',
    file: 'src/ledger.ts',
    search: 'if (event.cost !== 0) settler.appended(event);',
    replace: 'if (event.cost > 0) settler.appended(event);',
    tests: ['integration/record', 'integration/seedChecks'],
  },
  {
    name: 'twins: an event waits for ever',
    file: TWINS,
    search: 'if (performance.now() + pauseMs > deadlineMs) throw stillHeld(id, error);',
    replace: '',
    tests: ['integration/twins'],
  },
  {
    name: 'twins: all try at once, and leave nobody a connection',
    file: TWINS,
    search: 'const TRIES_AT_ONCE = 2;',
    replace: 'const TRIES_AT_ONCE = 1_000;',
    tests: ['unit/twins', 'integration/twins'],
  },
  {
    name: 'twins: an id that is held enters the next batch again',
    file: TWINS,
    search: 'return (this.#heldUntilMs.get(id) ?? 0) > Date.now();',
    replace: 'return false;',
    tests: ['unit/twins', 'integration/twins'],
  },
  {
    name: 'twins: a locked table is taken for a twin',
    file: TWINS,
    search: 'if (!(await isLocked())) {',
    replace: 'await isLocked();\n      {',
    tests: ['unit/twins', 'integration/twins', 'integration/relationLocks'],
  },
  {
    name: 'group commit: a second event of one id in the same statement',
    file: 'src/record/groupCommit.ts',
    search: 'if (ids.has(waiting.event.id)) {',
    replace: 'if (false) {',
    tests: ['unit/groupCommit'],
  },
  {
    name: 'group commit: what waits behind a lost database is sent all the same',
    file: 'src/record/groupCommit.ts',
    search: 'for (const behind of this.#queue.splice(0)) behind.reject(outcome.error);',
    replace: '',
    tests: ['unit/groupCommit'],
  },
  {
    name: 'known payers: what is believed has no end',
    file: 'src/record/knownPayers.ts',
    search: 'return (this.#untilMs.get(key) ?? 0) > nowMs;',
    replace: 'return this.#untilMs.has(key) && nowMs > 0;',
    tests: ['unit/knownPayers'],
  },
  {
    name: 'in place: waits for whoever holds payer or day',
    file: IN_PLACE,
    search: 'for no key update of u, d skip locked',
    replace: 'for no key update of u, d',
    tests: ['integration/inPlaceSteps'],
  },
  {
    name: 'in place: its row is unsettled as well',
    file: IN_PLACE,
    search: '<> 0 and (select l.counter_id from locked as l) is null',
    replace: '<> 0',
    tests: ['integration/inPlaceSteps'],
  },
  {
    name: 'in place: a replay moves the day',
    file: IN_PLACE,
    search: `(select l.counter_id from locked as l)
    and exists (select from usage_written)`,
    replace: '(select l.counter_id from locked as l)',
    tests: ['integration/inPlaceSteps'],
  },
  {
    name: 'in place: a replay moves the balance',
    file: IN_PLACE,
    search: `and exists (select from locked)
    and exists (select from usage_written)`,
    replace: 'and exists (select from locked)',
    tests: ['integration/inPlaceSteps'],
  },
  {
    name: 'lookups: a value is cached whose row may roll back',
    file: 'src/record/lookups.ts',
    search: 'if (entry && row.id !== null) found.set(entry[0], row.id);',
    replace:
      'if (entry && row.id !== null) {\n          found.set(entry[0], row.id);\n' +
      '          this.#remember(entry[0], row.id);\n        }',
    changesNothing: 'the one caller asks with a cache of its own, for one event',
    tests: ['integration/lookups'],
  },
  {
    name: 'correction: numbers are given twice',
    file: 'src/record/corrections.ts',
    search: 'const nextNumber = Math.max(...numbers, corrections.length) + 1;',
    replace: 'const nextNumber = Math.max(...numbers, 1);',
    tests: ['integration/corrections'],
  },
  {
    name: 'soft delete: waits for no write in flight',
    file: 'src/accounts/softDelete.ts',
    search: 'const WAIT_MS = 5_000;',
    replace: 'const WAIT_MS = -1;',
    tests: ['integration/softDelete', 'integration/softDeleteInFlight'],
  },
  {
    name: 'soft delete: is final whoever is open',
    file: 'src/accounts/softDelete.ts',
    search: 'const isFinal = open.length === 0;',
    replace: 'const isFinal = true;',
    tests: ['integration/softDelete'],
  },
  {
    name: 'soft delete: the background is done whoever is open',
    file: 'src/accounts/softDelete.ts',
    search: 'const isOver = (await waiting.older.remaining()).length === 0;',
    replace: 'const isOver = true;',
    tests: ['integration/softDelete'],
  },
];
