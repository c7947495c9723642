import { setTimeout as sleep } from 'node:timers/promises';
import { type Payer, payerKey } from '../counter/payer.js';
import type { Query } from '../db/query.js';
import { withRetry } from '../db/retry.js';
import { isLockTimeout } from '../db/sqlstate.js';
import { elsewhere, LedgerError } from '../errors.js';
import { isUuid, readUuid } from '../ids.js';
import { toSafeInteger } from '../money.js';
import { type Cleaning, type ValidEvent, validateEvent } from '../record/event.js';
import { formatMicros } from '../record/instants.sql.js';
import type { UsageEvent } from '../record/types.js';
import { type PayerScope, scopeNamed } from '../schema/unsettled.js';
import type { FoldedWindowRow } from './fold.sql.js';
import {
  type ExtendedRow,
  extendHoldStatement,
  type FoundHoldRow,
  findHoldStatement,
  type ReleasedRow,
  releaseHoldStatement,
} from './hold.sql.js';
import {
  contended,
  judge,
  type LaneOptions,
  PATIENCE_MS,
  PayerLane,
  toAvailable,
  toRefused,
} from './lane.js';
import type { HoldIntent, HoldRequest, HoldResult, ReleaseResult } from './types.js';
import { invalidHold, readAmount, type ValidHold, validateHold } from './validate.js';

/** Tries at a hold, or its slots, that someone else has: a fold, or who reserves beside. */
const MAX_TRIES = 40;
const PAUSE_MS = 8;
/** What this process granted and may settle: no look-up. Forgetting costs one. */
const MAX_REMEMBERED = 100_000;

export interface HoldsOptions extends LaneOptions {
  /** A hold of the payer was closed, or usage of it recorded: money may come back. */
  onClosed: (payer: Payer) => void;
}

/** What a settle needs to know of a hold. */
export interface KnownHold {
  payer: Payer;
  api_key_id: string | null;
  project_id: string | null;
  /** ISO 8601. */
  createdAt: string;
}

/** Holds of this process: reserving, extending, releasing; settling is recording (src/ledger.ts). */
export class Holds {
  readonly #options: HoldsOptions;
  readonly #lanes = new Map<string, PayerLane>();
  readonly #known = new Map<string, KnownHold>();

  constructor(options: HoldsOptions) {
    this.#options = options;
  }

  /** @throws LedgerError `invalid_event` and others, see `ledger.hold` */
  async hold(
    hold: HoldRequest,
    owner: string | null,
    cleaning: Cleaning,
    intent: HoldIntent | null = null,
  ): Promise<HoldResult> {
    const valid = validateHold(hold, owner, cleaning);
    valid.request.intent = intent;
    const result = await this.#reserve(valid);
    if (result.status === 'granted' && result.created_at !== null) {
      const { api_key_id, project_id } = valid.request;
      const createdAt = result.created_at;
      this.#remember(result.id, { payer: valid.payer, api_key_id, project_id, createdAt });
    }
    return result;
  }

  #remember(id: string, hold: KnownHold): void {
    if (this.#known.size >= MAX_REMEMBERED) this.#known.clear();
    this.#known.set(id, hold);
  }

  #reserve({ request, payer }: ValidHold): Promise<HoldResult> {
    const key = payerKey(payer);
    const lane = this.#lanes.get(key) ?? this.#openLane(key, payer);
    return new Promise((resolve, reject) => lane.add({ request, resolve, reject }));
  }

  #openLane(key: string, payer: Payer): PayerLane {
    const lane = new PayerLane(this.#options, payer, () => this.#lanes.delete(key));
    this.#lanes.set(key, lane);
    return lane;
  }

  /**
   * The event that settles a hold: with its id, and its time, key and project where it names none.
   * @throws LedgerError `invalid_event`, `forbidden` naming the field; `not_found`
   */
  async settling(holdId: string, event: UsageEvent, cleaning: Cleaning): Promise<ValidEvent> {
    const id = readUuid('hold_id', holdId);
    const own: unknown = event?.id ?? id;
    if (!isUuid(own) || own.toLowerCase() !== id) {
      throw invalidHold('id', 'must be that of the hold, or absent');
    }
    const valid = validateEvent({ ...event, id }, cleaning);
    const hold = this.#known.get(id) ?? (await this.#find(id));
    if (hold === 'settled') return valid;
    if (hold === null) {
      throw new LedgerError('not_found', 'hold_id names no hold; usage without one: recordUsage', {
        details: { field: 'hold_id', id },
      });
    }
    checkSame(hold, valid);
    this.#remember(id, hold);
    return {
      ...valid,
      created_at: valid.created_at ?? hold.createdAt,
      api_key_id: valid.api_key_id ?? hold.api_key_id,
      project_id: valid.project_id ?? hold.project_id,
    };
  }

  /**
   * Records what settles a hold. Where the archive has passed the hold's time meanwhile it is of now: nobody
   * else has recorded the id of a hold that is there and was not released, for no archive takes it.
   * @param given as the caller did: a time that it names stays
   * @throws LedgerError as `write`
   */
  async record<T>(
    valid: ValidEvent,
    given: UsageEvent,
    write: (event: ValidEvent) => Promise<T>,
  ): Promise<T> {
    try {
      return await write(valid);
    } catch (error) {
      if (!isOfItsTime(error) || (given.created_at ?? null) !== null) throw error;
      const hold = await this.#findRow(valid.id);
      if (hold.id === null || hold.is_released) throw error;
      return await write({ ...valid, created_at: null });
    }
  }

  /** `settled`: the hold went with the fold of its usage, which tells a replay from another event. */
  async #find(id: string): Promise<KnownHold | 'settled' | null> {
    const row = await this.#findRow(id);
    if (row.id === null) return row.is_settled ? 'settled' : null;
    return {
      payer: payerOf(row),
      api_key_id: row.api_key_id,
      project_id: row.project_id,
      createdAt: formatMicros(row.created_micros),
    };
  }

  /** Usage was recorded: with the id of a hold it closes it, by whatever way it came. */
  noteUsage({ id, kilo_user_id, organization_id }: Payer & { id: string }): void {
    if (this.#known.delete(id)) this.#options.onClosed({ kilo_user_id, organization_id });
  }

  /** Who holds by this id; null: nobody does any more. */
  async findHolder(holdId: string): Promise<Payer | null> {
    const row = await this.#findRow(readUuid('hold_id', holdId));
    return row.id === null ? null : payerOf(row);
  }

  async #findRow(id: string): Promise<FoundHoldRow> {
    const [row] = await withRetry(() => this.#options.query<FoundHoldRow>(findHoldStatement(id)));
    return row ?? { id: null, is_settled: false };
  }

  /**
   * Raises what is held to `amount` in all: again is a duplicate.
   * @throws LedgerError `invalid_event`, `not_found`, `forbidden` once closed, `unavailable`
   */
  async extend(holdId: string, amount: number): Promise<HoldResult> {
    const id = readUuid('hold_id', holdId);
    const wanted = readAmount(amount);
    for await (const tries of patiently()) {
      const row = await this.#try<ExtendedRow>(extendHoldStatement(id, wanted, this.#options.slot));
      if (row === null || row.status === 'locked' || row.status === 'busy') continue;
      if (row.status === 'absent') throw noHold(id);
      if (row.status === 'elsewhere') throw elsewhere(row.payer_scope ?? 'user', { id });
      if (row.status === 'settled' || row.status === 'released') {
        throw new LedgerError('forbidden', `the hold is ${row.status}; it cannot be extended`, {
          details: { field: 'hold_id', id },
        });
      }
      if (row.status !== 'short') return toExtended(id, row.status, row);
      const scope = scopeNamed(row.payer_scope ?? 'organization');
      const more = wanted - toSafeInteger(row.amount ?? 0);
      const windows = await this.#fold(scope, row.payer_id ?? '', more, row.window_ids ?? []);
      const verdict = judge(more, row, windows);
      if (verdict?.isWhole || (verdict !== null && tries >= MAX_TRIES - 1)) {
        return { ...toRefused(id, verdict.window), amount: toSafeInteger(row.amount ?? 0) };
      }
    }
    throw contended();
  }

  /** The payer's windows, then those of other payers that the hold names. */
  async #fold(scope: PayerScope, id: string, asked: number, windowIds: readonly string[]) {
    const { folder } = this.#options;
    const payers = await folder.involvedIn(scope, id, { windowIds, keys: [] });
    const windows = new Map<string, FoldedWindowRow>();
    for (const payer of payers) {
      const folded = await folder.foldFor(payer.scope, payer.id, asked);
      for (const row of folded ?? []) windows.set(row.window_id, row);
    }
    return windows;
  }

  /** Gives a hold back; again is a duplicate. @throws LedgerError `not_found`, `unavailable` */
  async release(holdId: string): Promise<ReleaseResult> {
    const id = readUuid('hold_id', holdId);
    for await (const _ of patiently()) {
      const row = await this.#try<ReleasedRow>(releaseHoldStatement(id));
      if (row === null || row.status === 'locked') continue;
      if (row.status === 'absent') throw noHold(id);
      if (row.status === 'elsewhere') throw elsewhere(row.payer_scope ?? 'user', { id });
      if (row.status === 'released') this.#options.onClosed(payerOf(row));
      this.#known.delete(id);
      return { id, status: row.status };
    }
    throw contended({ id });
  }

  /** Null: a lock was met after all. */
  async #try<Row>(statement: Parameters<Query>[0]): Promise<Row | null> {
    try {
      const rows = await withRetry(() => this.#options.query<Row>(statement), { splits: true });
      return rows[0] ?? null;
    } catch (error) {
      if (isLockTimeout(error)) return null;
      throw error;
    }
  }
}

/** Tries with pauses between them: MAX_TRIES at least, and for as long as a lane is patient. */
async function* patiently(): AsyncGenerator<number> {
  const beganAtMs = performance.now();
  for (let tries = 0; tries < MAX_TRIES || performance.now() - beganAtMs < PATIENCE_MS; tries++) {
    if (tries > 0) await sleep(Math.random() * PAUSE_MS);
    yield tries;
  }
}

/** Refused by the archive, or recorded before as of now. */
function isOfItsTime(error: unknown): boolean {
  if (!(error instanceof LedgerError)) return false;
  return error.code === 'archived_period' || error.code === 'idempotency_conflict';
}

/** The user of an organization's hold does not matter to who pays. */
function payerOf(row: {
  payer_scope: string | null;
  payer_id: string | null;
  kilo_user_id?: string;
}): Payer {
  const id = row.payer_id ?? '';
  return row.payer_scope === 'organization'
    ? { kilo_user_id: row.kilo_user_id ?? '', organization_id: id }
    : { kilo_user_id: id, organization_id: null };
}

/** What a hold was reserved for is what it is settled with: else it would pass another budget. */
function checkSame(hold: KnownHold, event: ValidEvent): void {
  const differs = (field: string) =>
    new LedgerError('forbidden', `${field} is not that of the hold`, { details: { field } });
  if (event.kilo_user_id !== hold.payer.kilo_user_id) throw differs('kilo_user_id');
  if (event.organization_id !== hold.payer.organization_id) throw differs('organization_id');
  for (const field of ['api_key_id', 'project_id'] as const) {
    if (event[field] !== null && event[field] !== hold[field]) throw differs(field);
  }
}

function toExtended(id: string, status: 'granted' | 'duplicate', row: ExtendedRow): HoldResult {
  return {
    id,
    status,
    amount: toSafeInteger(row.amount ?? 0),
    available_microdollars: toAvailable(row.available),
    created_at: null,
  };
}

function noHold(id: string): LedgerError {
  return new LedgerError('not_found', 'hold_id names no open hold', {
    details: { field: 'hold_id', id },
  });
}
