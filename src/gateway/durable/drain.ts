import { setTimeout as sleep } from 'node:timers/promises';
import { LedgerError } from '../../errors.js';
import type { DeadLetter, DeadLetterFile } from '../../journal/deadLetters.js';
import type { JournalRecord } from '../../journal/frame.js';
import type { Journal } from '../../journal/journal.js';
import type { Ledger } from '../../ledgerTypes.js';
import { recordEach } from '../../record/recordEach.js';
import type { BatchResult, RecordedEvent } from '../../record/types.js';
import { inSpan } from '../../tracing.js';
import { isOfOne, isPermanent, toLedgerError } from './failures.js';
import type { IntentStore } from './intentStore.js';
import { recordRefused } from './lateUsage.js';
import type { DurableMetrics } from './metrics.js';
import { type DatedUsage, type DurableRecord, decodeRecord } from './records.js';
import type { ResponseStore } from './responseStore.js';
import type { Intent } from './types.js';

export interface DrainContext {
  store: IntentStore;
  responses: ResponseStore;
  ledger: Ledger;
  deadLetters: DeadLetterFile<DatedUsage>;
  metrics: DurableMetrics;
  /** Of shards: how long usage of one may hold up that of the others. */
  shardTimeoutMs: number;
  /** Of a live request of this process; of any other the database decides later. */
  isStillOpen: (owner: string, id: string) => boolean;
  /** Usage left the journal. `owner`: the process life that put it there. */
  onDrained: (owner: string, event: DatedUsage) => void;
}

const UNANSWERED = new LedgerError('unavailable', 'the shard did not answer in time');

interface JournaledUsage {
  record: JournalRecord;
  owner: string;
  event: DatedUsage;
}

type Followed = Extract<DurableRecord, { type: 'follow' }>;

/** Several statements' worth: the ledger writes them side by side. */
const BATCH_RECORDS = 2_000;
/** Rest after a run that set records aside: the next one reads and writes all of them again. */
const REST_MS_A_RECORD = 0.5;
const MIN_REST_MS = 500;
const MAX_REST_MS = 60_000;
/** For an event that fails for no reason of its own to be seen, while the database answers. */
const MAX_ATTEMPTS = 5;

/**
 * Brings a journal into the database, in order, batch by batch; a batch is acknowledged when every
 * record of it is in the database or among the dead letters. Killed anywhere, it begins the
 * batch again: ids make that harmless (I3). Usage of a shard that is away, or whose id another transaction
 * holds, is set aside: it is written again at the end of the journal, so that it holds up nobody else's.
 */
export class Drain {
  readonly #context: DrainContext;
  /** Tries of records that failed inexplicably, by sequence number. */
  readonly #attempts = new Map<number, number>();
  #restsUntilMs = 0;

  constructor(context: DrainContext) {
    this.#context = context;
  }

  /**
   * Until the journal is empty, the same one each time: what failed in it is remembered.
   * @returns records drained @throws LedgerError to try again later
   */
  async run(journal: Journal): Promise<number> {
    const { metrics } = this.#context;
    if (performance.now() < this.#restsUntilMs) return 0;
    let drained = 0;
    let setAside = 0;
    // What is set aside comes behind what there is now.
    for (let left = journal.status().depthRecords; ; ) {
      const records = left > 0 || setAside === 0 ? await readNext(journal) : [];
      const last = records.at(-1);
      if (last === undefined) break;
      let aside: readonly JournalRecord[];
      try {
        aside = await this.#replay(records);
        await Promise.all(aside.map(({ kind, payload }) => journal.append(kind, payload)));
      } catch (error) {
        metrics.drainErrors.inc();
        throw toLedgerError(error);
      }
      await journal.acknowledge(last.sequence);
      this.#attempts.clear();
      left -= records.length;
      setAside += aside.length;
      drained += records.length - aside.length;
      metrics.drained.inc(records.length - aside.length);
    }
    if (setAside > 0) {
      const restMs = Math.max(MIN_REST_MS, setAside * REST_MS_A_RECORD);
      this.#restsUntilMs = performance.now() + Math.min(restMs, MAX_REST_MS);
    }
    return drained;
  }

  #replay(records: readonly JournalRecord[]): Promise<JournalRecord[]> {
    const attributes = { 'microdollar.records': records.length };
    const { tracing } = this.#context.ledger;
    return inSpan(tracing, 'microdollar.journal.replay', { attributes }, () =>
      this.#drainBatch(records),
    );
  }

  /** @returns what is to be set aside */
  async #drainBatch(records: readonly JournalRecord[]): Promise<JournalRecord[]> {
    const { store } = this.#context;
    const letters: DeadLetter<DatedUsage>[] = [];
    const usage: JournaledUsage[] = [];
    const closed = new Set<string>();
    const intents: Extract<DurableRecord, { type: 'intent' }>[] = [];
    const followed: Followed[] = [];
    for (const record of records) {
      const content = decodeRecord(record);
      if (content === null) letters.push(illegible(record));
      else if (content.type === 'intent') intents.push(content);
      else if (content.type === 'abandon') closed.add(content.id);
      else if (content.type === 'follow') {
        closed.add(content.response.intent.id);
        followed.push(content);
      } else {
        closed.add(content.event.id);
        usage.push({ record, owner: content.owner, event: content.event });
      }
    }
    const open = intents.filter(
      ({ owner, intent }) => !closed.has(intent.id) && this.#context.isStillOpen(owner, intent.id),
    );
    const kept = await this.#follow(followed);
    await store.insertMany([...open, ...kept]);
    // Closed while it was being inserted: its removal may have come too early.
    for (const { owner, intent } of open) {
      if (!this.#context.isStillOpen(owner, intent.id)) store.removeLater(intent.id);
    }
    for (const { intent } of kept) closed.delete(intent.id);
    const recorded = await this.#record(usage);
    letters.push(...recorded.letters);
    await this.#bury(letters);
    await store.removeMany([...closed]);
    for (const { record, owner, event } of usage) {
      if (!recorded.aside.includes(record)) this.#context.onDrained(owner, event);
    }
    return recorded.aside;
  }

  /**
   * Before their usage, which may be in the same batch: `is_settled` looks for it.
   * @returns the intents of those that are refused for good: to be settled as estimates
   */
  async #follow(followed: readonly Followed[]): Promise<{ owner: string; intent: Intent }[]> {
    const kept: { owner: string; intent: Intent }[] = [];
    for (const { owner, response } of followed) {
      try {
        await this.#context.responses.insert(response);
      } catch (error) {
        if (!isPermanent(toLedgerError(error))) throw error;
        kept.push({ owner, intent: response.intent });
      }
    }
    return kept;
  }

  async #record(
    usage: readonly JournaledUsage[],
  ): Promise<{ letters: DeadLetter<DatedUsage>[]; aside: JournalRecord[] }> {
    if (usage.length === 0) return { letters: [], aside: [] };
    const { ledger } = this.#context;
    const events = await withoutDeletedPeople(
      ledger,
      usage.map(({ event }) => event),
    );
    const results = await this.#recordAll(events);
    const letters: DeadLetter<DatedUsage>[] = [];
    const aside: JournalRecord[] = [];
    let tryAgain: Error | null = null;
    for (const [index, result] of results.entries()) {
      if (result.status !== 'rejected') continue;
      const { record } = usage[index] as (typeof usage)[number];
      const event = events[index] as DatedUsage;
      const refusal = await this.#correct(event, result);
      if (refusal === null) continue;
      if (refusal === UNANSWERED || isOfOne(refusal)) {
        aside.push(record);
      } else if (isPermanent(refusal) || this.#isHopeless(record.sequence, refusal)) {
        letters.push(letterOf(event, refusal));
      } else {
        tryAgain = refusal;
      }
    }
    if (tryAgain !== null) throw tryAgain;
    return { letters, aside };
  }

  /** Of shards those that do not answer are not waited for: ids make it harmless if they still do. */
  async #recordAll(events: readonly DatedUsage[]): Promise<BatchResult<RecordedEvent>[]> {
    const { ledger, shardTimeoutMs } = this.#context;
    const how = { balance: false } as const;
    if (ledger.parts.length === 1) return await ledger.recordUsageBatch(events, how);
    const stopWaiting = new AbortController();
    const { signal } = stopWaiting;
    const limit = sleep(shardTimeoutMs, undefined, { signal, ref: false }).then(
      () => Promise.reject(UNANSWERED),
      () => new Promise<never>(() => {}),
    );
    limit.catch(() => {});
    try {
      return await recordEach(events, (event) =>
        Promise.race([ledger.recordUsage(event, how), limit]),
      );
    } finally {
      stopWaiting.abort();
    }
  }

  /** Null when it was refused for no fault of its own, and is recorded all the same. */
  async #correct(
    event: DatedUsage,
    { error }: Extract<BatchResult, { status: 'rejected' }>,
  ): Promise<Error | null> {
    try {
      const result = await recordRefused(this.#context.ledger, event, error);
      if (result === null) return error;
      const isCorrection = result.id !== event.id && result.status === 'recorded';
      if (isCorrection) this.#context.metrics.corrected.inc();
      return null;
    } catch (refusal) {
      return refusal as Error;
    }
  }

  /** A database that is away says nothing about the event; any other failure is counted. */
  #isHopeless(sequence: number, error: Error): boolean {
    if (error instanceof LedgerError && error.code === 'unavailable') return false;
    const attempts = (this.#attempts.get(sequence) ?? 0) + 1;
    this.#attempts.set(sequence, attempts);
    return attempts >= MAX_ATTEMPTS;
  }

  async #bury(letters: readonly DeadLetter<DatedUsage>[]): Promise<void> {
    await this.#context.deadLetters.add(letters);
    for (const { reason } of letters) this.#context.metrics.deadLettered.inc({ reason });
  }
}

/** A failure says nothing about the database, which must not be taken for away. */
function readNext(journal: Journal): Promise<JournalRecord[]> {
  return journal.readNext(BATCH_RECORDS).catch((cause: Error) => {
    throw new LedgerError('internal', `the journal cannot be read: ${cause.message}`, { cause });
  });
}

export function letterOf(event: DatedUsage, error: unknown): DeadLetter<DatedUsage> {
  const { code, message } = toLedgerError(error);
  return { id: event.id, at: new Date().toISOString(), reason: code, message, event };
}

/** Kept as it is, for a person or a later version to read. */
function illegible(record: JournalRecord): DeadLetter<DatedUsage> {
  return {
    id: `record-${record.sequence}`,
    at: new Date(record.writtenAtMs).toISOString(),
    reason: 'invalid_record',
    message: `journal record of kind ${record.kind} is not legible to this version`,
    event: record.payload.toString('base64') as unknown as DatedUsage,
  };
}

/**
 * Events of soft-deleted users without their metadata (I11). The write drops it anyway; this keeps
 * its values out of the lookup tables too.
 */
async function withoutDeletedPeople(
  ledger: Ledger,
  events: readonly DatedUsage[],
): Promise<DatedUsage[]> {
  const deleted = await findDeletedUsers(
    ledger,
    events.map((event) => event.kilo_user_id),
  );
  return events.map((event) => withoutPerson(event, deleted));
}

export function withoutPerson(event: DatedUsage, deleted: ReadonlySet<string>): DatedUsage {
  if (!deleted.has(event.kilo_user_id)) return event;
  const { metadata: _, ...rest } = event;
  return rest;
}

export async function findDeletedUsers(
  ledger: Ledger,
  kiloUserIds: readonly string[],
): Promise<ReadonlySet<string>> {
  const ids = [...new Set(kiloUserIds)].map((id) => id.replaceAll('\0', ''));
  const found = await Promise.allSettled(
    ledger.parts.map(({ ledger: { pool } }) =>
      pool.query<{ id: string }>(
        `/* gateway.findDeletedUsers */
         select id
         from kilocode_users
         where id = any($1::text[])
           and deleted_at is not null`,
        [ids],
      ),
    ),
  );
  // What would be written to a shard that is away stays here; of the others each knows its users.
  if (found.every(({ status }) => status === 'rejected'))
    throw (found[0] as PromiseRejectedResult).reason;
  return new Set(
    found.flatMap((each) =>
      each.status === 'fulfilled' ? each.value.rows.map(({ id }) => id) : [],
    ),
  );
}
