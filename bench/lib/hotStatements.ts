import {
  drainStatement,
  findPendingPayersStatement,
  openCountersStatement,
} from '../../src/counter/fold.sql.js';
import { READ_SETTINGS, WRITE_SETTINGS } from '../../src/db/pool.js';
import type { Statement } from '../../src/db/statement.js';
import { appendUsageStatement } from '../../src/record/appendUsage.sql.js';
import { type ValidEvent, validateEvent } from '../../src/record/event.js';
import { type MetadataRow, toMetadataRow } from '../../src/record/metadataRow.js';
import { recordBatchStatement } from '../../src/record/recordBatch.sql.js';
import { recordUsageStatement } from '../../src/record/recordUsage.sql.js';
import { dailyUsageStatement, threeMonthTotalStatement } from '../../src/report/report.sql.js';
import { eventSource, ORGANIZATION_ID, type Population, userId } from './population.js';

/** A statement of the ledger's, with the settings of the connection that it runs on there. */
export interface HotStatement {
  name: string;
  settings: readonly string[];
  /** `fromXid`: where a fold that has seen everything so far begins. */
  statement(fromXid: string): Statement;
}

const BATCH = 100;
/** Users of batches; single events are one user's, so that what it left behind shows. */
export const BATCH_USERS = 100;
export const PENDING_USER = userId(0);
export const WRITING_USER = userId(1);

const FOLD_SETTINGS = ['enable_seqscan=off', 'enable_bitmapscan=off', 'jit=off'];
const DAYS = { from: '2000-01-01', until: '2100-01-01' };

const one: Population = { users: 2, draw: () => () => 1 };
/** One after the other: every batch touches the same rows. */
const many: Population = {
  users: BATCH_USERS,
  draw: () => {
    let next = 0;
    return () => 1 + (next++ % (BATCH_USERS - 1));
  },
};
const nextOfOne = eventSource(one, 7);
const nextOfMany = eventSource(many, 8);

/** Without lookups by value, which the ledger resolves in a statement of its own. */
function toEvent(source: typeof nextOfOne, organizationId: string | null): ValidEvent {
  const { metadata, ...core } = source();
  return validateEvent({ ...core, organization_id: organizationId }, { nulBytesRemoved: 0 });
}

function metadataOf(event: ValidEvent): MetadataRow | null {
  const metadata = { message_id: `gen-${event.id}`, latency: 812.5 };
  return toMetadataRow({ ...event, metadata }, () => undefined);
}

function recordOne(organizationId: string | null): Statement {
  const event = toEvent(nextOfOne, organizationId);
  return recordUsageStatement(event, metadataOf(event), true);
}

function appendOne(organizationId: string | null): Statement {
  const event = toEvent(nextOfOne, organizationId);
  return appendUsageStatement(event, metadataOf(event));
}

function recordMany(): Statement {
  const events = Array.from({ length: BATCH }, () => toEvent(nextOfMany, null));
  return recordBatchStatement(events, events.map(metadataOf), true);
}

/** Something to fold, where nobody writes. */
export function appendPending(): Statement {
  const event = { ...toEvent(nextOfOne, null), kilo_user_id: PENDING_USER };
  return appendUsageStatement(event, null);
}

const write = (name: string, statement: () => Statement): HotStatement => ({
  name,
  settings: WRITE_SETTINGS,
  statement,
});
const fold = (name: string, statement: (fromXid: string) => Statement): HotStatement => ({
  name,
  settings: FOLD_SETTINGS,
  statement,
});
const read = (name: string, statement: () => Statement): HotStatement => ({
  name,
  settings: READ_SETTINGS,
  statement,
});

export const HOT_STATEMENTS: readonly HotStatement[] = [
  write('record one, personal', () => recordOne(null)),
  write('record one, organization', () => recordOne(ORGANIZATION_ID)),
  write('append one, personal', () => appendOne(null)),
  write('append one, organization', () => appendOne(ORGANIZATION_ID)),
  write(`record a batch of ${BATCH}`, recordMany),
  fold('fold: find payers', (fromXid) => findPendingPayersStatement(fromXid, 2_000, 0)),
  fold('fold: create missing rows', () =>
    openCountersStatement([PENDING_USER], [ORGANIZATION_ID], 100),
  ),
  fold('fold: drain', () => drainStatement([PENDING_USER], [ORGANIZATION_ID], 4_000)),
  read('read three months', () => threeMonthTotalStatement('rollup', WRITING_USER, null)),
  read('read daily totals', () =>
    dailyUsageStatement('rollup', { kiloUserId: WRITING_USER, organizationId: null, ...DAYS }),
  ),
];
