import { LedgerError } from '../../errors.js';
import { newUuid } from '../../ids.js';
import type { DeadLetterFile } from '../../journal/deadLetters.js';
import type { Journal } from '../../journal/journal.js';
import type { Ledger } from '../../ledgerTypes.js';
import type { UsageEvent } from '../../record/types.js';
import type { DatabaseGate } from './databaseGate.js';
import { letterOf } from './drain.js';
import { isPermanent, toLedgerError } from './failures.js';
import type { IntentStore } from './intentStore.js';
import { recordLate } from './lateUsage.js';
import type { DurableMetrics } from './metrics.js';
import type { Log } from './options.js';
import { type DatedUsage, encodeRecord } from './records.js';
import type { ResponseStore } from './responseStore.js';
import type { FollowedResponse, Intent, SettleResult } from './types.js';

export interface SinkContext {
  owner: string;
  ledger: Ledger;
  gate: DatabaseGate;
  store: IntentStore;
  responses: ResponseStore;
  journal: Journal;
  deadLetters: DeadLetterFile<DatedUsage>;
  metrics: DurableMetrics;
  log: Log;
  onSettled: (event: DatedUsage, settled: SettleResult) => void;
  /** The journal took a record, or could not. */
  onJournal: () => void;
}

/** Room kept for the usage of every open intent, so that what was begun can be settled. */
export const RESERVE_BYTES = 8 * 1024;
const MAX_TEXT = 512;

/**
 * Where intents and usage of requests go:
 *
 *   begin   --> database --away, slow--> journal --full, failed--> refused: 503, no upstream call
 *   settle  --> database --away, slow--> journal --failed--> dead letters --failed--> unsaved
 *                  +--refused for good--> dead letters
 *
 * An intent that a timeout left in doubt may be in both places; ids make that harmless.
 */
export class RequestSink {
  readonly #context: SinkContext;
  /** Begun, and neither settled nor abandoned; whether the journal may know of it. */
  readonly #open = new Map<string, 'database' | 'journal'>();
  readonly #inFlight = new Set<Promise<unknown>>();
  #isClosing = false;

  constructor(context: SinkContext) {
    this.#context = context;
  }

  get openIntents(): number {
    return this.#open.size;
  }

  isOpen(id: string): boolean {
    return this.#open.has(id);
  }

  begin(intent: Intent): Promise<void> {
    if (this.#isClosing) return Promise.reject(closing());
    return this.#track(() => this.#begin(cleanIntent(intent)));
  }

  adopt(id: string): void {
    this.#open.set(id, 'database');
  }

  settle(event: UsageEvent): Promise<SettleResult> {
    return this.#track(() => this.#settle(dateUsage(event)));
  }

  /** The intent becomes a response that is followed. @throws LedgerError `unavailable` */
  follow(response: FollowedResponse, lookInSeconds = 1): Promise<void> {
    const clean = { ...response, intent: cleanIntent(response.intent) };
    return this.#track(() => this.#follow(clean, lookInSeconds));
  }

  abandon(id: string): Promise<void> {
    return this.#track(() => this.#abandon(id));
  }

  /** Takes no new requests; resolves when calls under way have ended. */
  async close(): Promise<void> {
    this.#isClosing = true;
    while (this.#inFlight.size > 0) await Promise.allSettled([...this.#inFlight]);
  }

  async #begin(intent: Intent): Promise<void> {
    const { gate, store, journal, metrics, owner } = this.#context;
    const stop = metrics.beginDuration.startTimer();
    this.#open.set(intent.id, 'database');
    try {
      try {
        await gate.run(() => this.#insert(intent));
        stop({ durable: 'database' });
        return;
      } catch (error) {
        if (isPermanent(error)) throw error;
      }
      this.#open.set(intent.id, 'journal');
      const { kind, payload } = encodeRecord({ type: 'intent', owner, intent });
      await journal.append(kind, payload, this.#open.size * RESERVE_BYTES);
      this.#context.onJournal();
      stop({ durable: 'journal' });
    } catch (error) {
      this.#open.delete(intent.id);
      store.removeLater(intent.id);
      metrics.refused.inc();
      this.#context.onJournal();
      throw toLedgerError(error);
    }
  }

  /** Given up by the gate it may still commit, after the request was refused or even settled. */
  async #insert(intent: Intent): Promise<void> {
    const { store, owner } = this.#context;
    await store.insert({ owner, intent });
    if (!this.#open.has(intent.id)) store.removeLater(intent.id);
  }

  async #settle(event: DatedUsage): Promise<SettleResult> {
    const { metrics } = this.#context;
    const stop = metrics.settleDuration.startTimer();
    const settled = await this.#save(event);
    stop({ durable: settled.durable });
    this.#open.delete(event.id);
    const { store, ledger } = this.#context;
    // Intents are in one database: of shards the usage may be in another one.
    if (settled.durable === 'database' && ledger.parts.length > 1) store.removeLater(event.id);
    else if (settled.durable === 'database') store.removeSettledLater(event.id);
    else if (settled.durable === 'dead_letter') store.removeLater(event.id);
    this.#context.onSettled(event, settled);
    return settled;
  }

  async #save(event: DatedUsage): Promise<SettleResult> {
    const { gate, ledger, metrics, log } = this.#context;
    try {
      const result = await gate.runOnLedger(() => recordLate(ledger, event));
      if (result.id !== event.id && result.status === 'recorded') metrics.corrected.inc();
      return { durable: 'database', result };
    } catch (error) {
      if (isPermanent(error) && (await this.#bury(event, error))) return { durable: 'dead_letter' };
    }
    try {
      await this.#journal({ type: 'usage', owner: this.#context.owner, event });
      return { durable: 'journal' };
    } catch (error) {
      if (await this.#bury(event, error)) return { durable: 'dead_letter' };
      metrics.unsaved.inc();
      const failure = toLedgerError(error);
      log.error(
        { usage_id: event.id, reason: failure.message },
        'usage could not be saved anywhere; its intent will be settled as an estimate',
      );
      throw failure;
    }
  }

  /** @returns whether the letter is durable */
  async #bury(event: DatedUsage, error: unknown): Promise<boolean> {
    const { deadLetters, metrics, log } = this.#context;
    const letter = letterOf(event, error);
    try {
      await deadLetters.add([letter]);
    } catch (failure) {
      log.error({ usage_id: event.id, reason: (failure as Error).message }, 'no dead letter');
      return false;
    }
    metrics.deadLettered.inc({ reason: letter.reason });
    log.error({ usage_id: event.id, reason: letter.reason }, 'usage went to the dead letters');
    this.#context.onJournal();
    return true;
  }

  async #follow(response: FollowedResponse, lookInSeconds: number): Promise<void> {
    const { gate, responses, owner } = this.#context;
    const { id } = response.intent;
    try {
      await gate.run(() => responses.insert(response, lookInSeconds));
    } catch {
      await this.#journal({ type: 'follow', owner, response }).catch((error) => {
        throw toLedgerError(error);
      });
    }
    this.#open.delete(id);
  }

  async #abandon(id: string): Promise<void> {
    const { gate, store } = this.#context;
    const where = this.#open.get(id);
    this.#open.delete(id);
    if (where !== 'journal') {
      try {
        return await gate.run(() => store.remove(id));
      } catch {
        // Away: the journal remembers.
      }
    }
    // Also when the database is back: the intent in the journal would else outlive a crash.
    await this.#journal({ type: 'abandon', id });
    store.removeLater(id);
  }

  async #journal(record: Parameters<typeof encodeRecord>[0]): Promise<void> {
    const { kind, payload } = encodeRecord(record);
    try {
      await this.#context.journal.append(kind, payload);
    } finally {
      this.#context.onJournal();
    }
  }

  #track<T>(run: () => Promise<T>): Promise<T> {
    const work = run();
    this.#inFlight.add(work);
    const done = () => this.#inFlight.delete(work);
    work.then(done, done);
    return work;
  }
}

/** Fixed here, so that a replay from the journal says the same (I3). */
function dateUsage(event: UsageEvent): DatedUsage {
  const { created_at: createdAt } = event;
  return {
    ...event,
    id: (event.id ?? newUuid()).toLowerCase(),
    created_at:
      createdAt instanceof Date ? createdAt.toISOString() : (createdAt ?? new Date().toISOString()),
  };
}

/** Texts that PostgreSQL would refuse must not keep a batch of intents from being written. */
export function cleanIntent(intent: Intent): Intent {
  const text = (value: string) => value.replaceAll('\0', '').toWellFormed().slice(0, MAX_TEXT);
  const tokens = (count: number) =>
    Number.isSafeInteger(count) && count > 0 ? count : Math.max(0, Math.round(count) || 0);
  return {
    ...intent,
    id: intent.id.toLowerCase(),
    api_kind: text(intent.api_kind),
    requested_model: intent.requested_model === null ? null : text(intent.requested_model),
    input_tokens_estimate: Math.min(tokens(intent.input_tokens_estimate), Number.MAX_SAFE_INTEGER),
    max_tokens:
      intent.max_tokens === null ? null : Math.min(tokens(intent.max_tokens), 2 ** 31 - 1),
  };
}

function closing(): LedgerError {
  return new LedgerError('unavailable', 'the gateway is closing');
}
