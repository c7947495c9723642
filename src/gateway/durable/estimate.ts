import type { Query } from '../../db/query.js';
import { LedgerError } from '../../errors.js';
import type { DeadLetterFile } from '../../journal/deadLetters.js';
import type { Ledger } from '../../ledgerTypes.js';
import { isRefusedForItsTime, redate } from '../metering/index.js';
import { API_KINDS, assumedOutputTokens, BACKGROUND_INTENT } from '../prices/index.js';
import { isOfOne, isPermanent, toLedgerError } from './failures.js';
import type { IntentStore } from './intentStore.js';
import { findIntentsStatement, type IntentRow } from './intents.sql.js';
import { INTENT_WITHOUT_USAGE } from './lateUsage.js';
import type { DurableMetrics } from './metrics.js';
import type { DatedUsage } from './records.js';
import { type Intent, toApiKeyId } from './types.js';

/** What an intent without usage is taken to have cost. */
export interface IntentPrice {
  /** Microdollars, whole. */
  cost: number;
  output_tokens?: number;
  price_source?: string | null;
  price_version?: string | null;
}

/** Null: no price is known; recorded as unpriced. */
export type PriceIntent = (intent: Intent) => IntentPrice | null;

export interface SettleOwnerContext {
  query: Query;
  store: IntentStore;
  ledger: Ledger;
  deadLetters: DeadLetterFile<DatedUsage>;
  price: PriceIntent;
  metrics: DurableMetrics;
}

const PAGE = 200;
/** In `usage_details.doubts` of an estimate. */
const LOST_RESPONSE = 'lost_response';

/**
 * The usage row of an intent whose usage was lost with its process. Bears the intent's id, so that
 * real usage that comes after all meets it (lateUsage.ts). The same intent gives the same event.
 */
export function estimateOf(intent: Intent, price: IntentPrice | null): DatedUsage {
  return {
    id: intent.id,
    kilo_user_id: intent.kilo_user_id,
    organization_id: intent.organization_id,
    api_key_id: toApiKeyId(intent.api_key_id),
    cost: price?.cost ?? 0,
    input_tokens: intent.input_tokens_estimate,
    output_tokens: price?.output_tokens ?? assumedOutputTokens(intent),
    requested_model: intent.requested_model,
    created_at: intent.created_at,
    metadata: {
      estimated: INTENT_WITHOUT_USAGE,
      ...(isLostResponse(intent)
        ? { api_kind: API_KINDS['openai-responses'], usage_details: { doubts: [LOST_RESPONSE] } }
        : { api_kind: intent.api_kind }),
      max_tokens: intent.max_tokens,
      streamed: intent.streamed,
      ...(price === null
        ? { unpriced: true }
        : { price_source: price.price_source ?? null, price_version: price.price_version ?? null }),
    },
  };
}

/** The provider may be making it still, under a name that nobody was told. */
function isLostResponse(intent: Intent): boolean {
  return intent.api_kind === BACKGROUND_INTENT;
}

export interface Settled {
  estimated: number;
  /** To be tried again: they are held elsewhere, or failed for no reason of their own; no others wait. */
  left: number;
  /** Why, of the last one. */
  reason: string | null;
}

/**
 * Settles what a dead owner left: removes intents whose usage is recorded, estimates the others.
 * Interrupted, it goes on where it was; several processes may do it at once (I3).
 * @throws LedgerError `unavailable`
 */
export async function settleOwner(context: SettleOwnerContext, owner: string): Promise<Settled> {
  const settled: Settled = { estimated: 0, left: 0, reason: null };
  let afterId: string | null = null;
  for (;;) {
    const rows: IntentRow[] = await context.query(findIntentsStatement(owner, afterId, PAGE));
    const last = rows.at(-1);
    if (last === undefined) return settled;
    const page = await settlePage(context, rows);
    settled.estimated += page.estimated;
    settled.left += page.failed.size;
    settled.reason = [...page.failed.values()].at(-1)?.message ?? settled.reason;
    const ids = rows.map((row) => row.id);
    await context.store.removeMany(ids.filter((id) => !page.failed.has(id)));
    afterId = last.id;
  }
}

async function settlePage(
  { ledger, deadLetters, price, metrics }: SettleOwnerContext,
  rows: readonly IntentRow[],
): Promise<{ estimated: number; failed: ReadonlyMap<string, Error> }> {
  const failed = new Map<string, Error>();
  const events = rows
    .filter((row) => !row.has_usage)
    .map((row) => {
      const intent = toIntent(row);
      const known = price(intent);
      const event = { ...estimateOf(intent, known), project_id: row.project_id };
      return { event, priced: String(known !== null), intent };
    });
  if (events.length === 0) return { estimated: 0, failed };
  const results = await ledger.recordUsageBatch(events.map(({ event }) => event));
  let estimated = 0;
  for (const [index, result] of results.entries()) {
    const { event, priced, intent } = events[index] as (typeof events)[number];
    const count = () => {
      estimated++;
      metrics.estimated.inc({ priced });
      if (isLostResponse(intent)) metrics.lostResponses.inc();
    };
    if (result.status === 'recorded') count();
    if (result.status !== 'rejected') continue;
    const error = isRefusedForItsTime(result.error)
      ? await recordRedated(ledger, event)
      : result.error;
    if (error === null) {
      count();
      continue;
    }
    // Recorded meanwhile, by itself or by another who settles: nothing is left to do.
    if (error instanceof LedgerError && error.code === 'idempotency_conflict') continue;
    if (!isPermanent(error)) {
      // An id that is in flight elsewhere is gone past: its intent stays, so the next round meets it again.
      if (toLedgerError(error).code === 'unavailable' && !isOfOne(error)) throw error;
      failed.set(event.id, error);
      continue;
    }
    const { code, message } = error as LedgerError;
    await deadLetters.add([
      { id: event.id, at: new Date().toISOString(), reason: code, message, event },
    ]);
    metrics.deadLettered.inc({ reason: code });
  }
  return { estimated, failed };
}

/** Null when it is recorded. */
async function recordRedated(ledger: Ledger, event: DatedUsage): Promise<Error | null> {
  try {
    await ledger.recordUsage(redate(event));
    return null;
  } catch (error) {
    return error as Error;
  }
}

function toIntent(row: IntentRow): Intent {
  const { has_usage: _, project_id: __, ...intent } = row;
  return {
    ...intent,
    input_tokens_estimate: Number(row.input_tokens_estimate),
    max_tokens: row.max_tokens === null ? null : Number(row.max_tokens),
  };
}
