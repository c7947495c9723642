import { CONNECTION_USES } from '../../src/connections.js';
import { openCountersStatement } from '../../src/counter/openCounters.sql.js';
import { readBalancesStatement, settleStatement } from '../../src/counter/settle.sql.js';
import { sweepPageStatement } from '../../src/counter/sweep.sql.js';
import { READ_SETTINGS, WRITE_SETTINGS } from '../../src/db/pool.js';
import type { Statement } from '../../src/db/statement.js';
import { appendBatchStatement } from '../../src/record/appendBatch.sql.js';
import { appendUsageStatement } from '../../src/record/appendUsage.sql.js';
import { type ValidEvent, validateEvent } from '../../src/record/event.js';
import { recordInPlaceStatement } from '../../src/record/inPlace.sql.js';
import { type MetadataRow, toMetadataRow } from '../../src/record/metadataRow.js';
import { dailyUsageStatement, threeMonthTotalStatement } from '../../src/report/report.sql.js';
import { ORGANIZATION_SCOPE, USAGE_LOG, USER_SCOPE } from '../../src/schema/unsettled.js';
import { eventSource, ORGANIZATION_ID, type Population, userId } from './population.js';

/** A statement of the ledger's, with the settings of the connection that it runs on there. */
export interface HotStatement {
  name: string;
  settings: readonly string[];
  statement(): Statement;
}

const BATCH = 100;
/** Users of batches; single events are one user's, so that what it left behind shows. */
export const BATCH_USERS = 100;
export const PENDING_USER = userId(0);
export const WRITING_USER = userId(1);

const SETTLE_SETTINGS = CONNECTION_USES.settle.settings;
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
  return recordInPlaceStatement(event, metadataOf(event));
}

function appendOne(organizationId: string | null): Statement {
  const event = toEvent(nextOfOne, organizationId);
  return appendUsageStatement(event, { metadata: metadataOf(event), isKnown: true });
}

function recordMany(): Statement {
  const events = Array.from({ length: BATCH }, () => toEvent(nextOfMany, null));
  return appendBatchStatement(events, events.map(metadataOf), true);
}

/** Something to fold, where nobody writes. */
export function appendPending(): Statement {
  const event = { ...toEvent(nextOfOne, null), kilo_user_id: PENDING_USER };
  return appendUsageStatement(event, { metadata: null, isKnown: true });
}

const write = (name: string, statement: () => Statement): HotStatement => ({
  name,
  settings: WRITE_SETTINGS,
  statement,
});
const fold = (name: string, statement: () => Statement): HotStatement => ({
  name,
  settings: SETTLE_SETTINGS,
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
  fold('settle: one user', () =>
    settleStatement(USER_SCOPE, [PENDING_USER], [true], { youngXids: 64, rowsPerPayer: null }),
  ),
  fold('settle: an organization', () =>
    settleStatement(ORGANIZATION_SCOPE, [ORGANIZATION_ID], [true], {
      youngXids: 64,
      rowsPerPayer: null,
    }),
  ),
  fold('settle: create missing rows', () =>
    openCountersStatement(USAGE_LOG, USER_SCOPE, [PENDING_USER]),
  ),
  fold('read balances', () => readBalancesStatement(USER_SCOPE, [WRITING_USER])),
  fold('sweep a page', () => sweepPageStatement(USER_SCOPE, null, 100)),
  read('read three months', () => threeMonthTotalStatement('rollup', WRITING_USER, null)),
  read('read daily totals', () =>
    dailyUsageStatement('rollup', { kiloUserId: WRITING_USER, organizationId: null, ...DAYS }),
  ),
];
