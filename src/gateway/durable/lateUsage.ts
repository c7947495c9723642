import { LedgerError } from '../../errors.js';
import type { Ledger } from '../../ledgerTypes.js';
import {
  type CorrectedUsage,
  correctionId,
  recordCorrection,
  type UsageRow,
} from '../../record/corrections.js';
import type { RecordedEvent, UsageEvent } from '../../record/types.js';
import { isRefusedForItsTime, redate } from '../metering/index.js';
import type { DatedUsage } from './records.js';

type Target = Pick<Ledger, 'of' | 'recordUsage'>;

/** Nobody here asks what the payer has used: the write is one insert, and the request waits for no more. */
const INSERT_ONLY = { balance: false } as const;

/** `metadata.estimated` of what a crash left unsettled. */
export const INTENT_WITHOUT_USAGE = 'intent_without_usage';

/**
 * Records a gateway's usage. If its intent was settled as an estimate meanwhile (its process was
 * taken for dead), the real usage wins: by a signed row that names the estimate and carries its
 * time, so that cost, rollup and balance come out as if there had been no estimate, whatever the
 * estimate was priced at meanwhile. Idempotent (I3).
 * @throws LedgerError as `recordUsage`
 */
export async function recordLate(ledger: Target, event: DatedUsage): Promise<RecordedEvent> {
  try {
    return await ledger.recordUsage(event, INSERT_ONLY);
  } catch (error) {
    const corrected = await recordRefused(ledger, event, error);
    if (corrected === null) throw error;
    return corrected;
  }
}

/**
 * Records what the ledger refused for no fault of its own: real usage that meets its estimate, or
 * usage of a time that the ledger does not take. Null: it was refused for another reason.
 * @throws LedgerError as `recordUsage`
 */
export async function recordRefused(
  ledger: Target,
  event: DatedUsage,
  refusal: unknown,
): Promise<RecordedEvent | null> {
  if (!isRefusedForItsTime(refusal)) return await correctEstimate(ledger, event, refusal);
  const redated = redate(event);
  try {
    return await ledger.recordUsage(redated, INSERT_ONLY);
  } catch (error) {
    const corrected = await correctEstimate(ledger, redated, error);
    if (corrected === null) throw error;
    return corrected;
  }
}

/**
 * Corrects the estimate under the event's id; null when the event was refused for another reason,
 * or there is no such estimate.
 * @throws LedgerError as `recordUsage`
 */
async function correctEstimate(
  ledger: Target,
  event: LateUsage,
  refusal: unknown,
): Promise<RecordedEvent | null> {
  if (!(refusal instanceof LedgerError) || refusal.code !== 'idempotency_conflict') return null;
  const { pool } = await ledger.of(event);
  const target = { pool, recordUsage: (correction: UsageEvent) => ledger.recordUsage(correction) };
  return await recordCorrection(target, event.id, (usage) =>
    usage === null ? null : toCorrection(usage, event),
  );
}

type LateUsage = UsageEvent & { id: string };

function toCorrection(usage: CorrectedUsage, event: LateUsage): UsageEvent | null {
  const { original, corrections, nextNumber } = usage;
  if (original.estimated !== INTENT_WITHOUT_USAGE) {
    // It was recorded at another time than its own, and is tried again now that its own has come.
    const isSame = original.stated_created_at !== null && isSameTime(original, event);
    return isSame ? again(original) : null;
  }
  if (
    original.kilo_user_id !== event.kilo_user_id ||
    original.organization_id !== (event.organization_id?.toLowerCase() ?? null)
  ) {
    return null;
  }
  const before = corrections.find((each) => each.is_late_usage);
  if (before !== undefined) return again(before);
  const missing = (field: TokenField) => Math.max(0, (event[field] ?? 0) - original[field]);
  return {
    ...event,
    id: correctionId(original.id, nextNumber),
    cost: differenceOf(usage, event),
    input_tokens: missing('input_tokens'),
    output_tokens: missing('output_tokens'),
    cache_write_tokens: missing('cache_write_tokens'),
    cache_hit_tokens: missing('cache_hit_tokens'),
    created_at: original.created_at,
    metadata: {
      ...event.metadata,
      adjusts_usage_id: original.id,
      correction_number: nextNumber,
      usage_details: { ...event.metadata?.usage_details, late_usage: true },
    },
  };
}

function isSameTime({ stated_created_at: stated }: UsageRow, event: LateUsage): boolean {
  return Date.parse(stated ?? '') === new Date(event.created_at ?? Number.NaN).getTime();
}

type TokenField = 'input_tokens' | 'output_tokens' | 'cache_write_tokens' | 'cache_hit_tokens';

/**
 * What the real usage costs beyond what was charged. Where it has no price yet, what was charged
 * stays until it has. What was refunded of the estimate is refunded of the real cost, and never more
 * than that.
 */
function differenceOf({ original, corrections }: CorrectedUsage, event: LateUsage): number {
  if (event.metadata?.unpriced) return 0;
  // Of a user who was deleted there is no metadata; only prices have such ids.
  const hasOwnId = (row: UsageRow, at: number) => row.id === correctionId(original.id, at + 1);
  const isPrice = (row: UsageRow, at: number) =>
    row.price_source !== null || row.unpriced || hasOwnId(row, at);
  const charged = original.cost + sumOf(corrections.filter(isPrice));
  const refunded = sumOf(corrections.filter((row, at) => !isPrice(row, at)));
  const difference = event.cost - charged;
  return Math.max(difference, Math.min(0, -(charged + refunded)));
}

function sumOf(rows: readonly UsageRow[]): number {
  return rows.reduce((sum, row) => sum + row.cost, 0);
}

/** The same again: the ledger knows it for a duplicate. */
function again(row: UsageRow): UsageEvent {
  const { id, kilo_user_id, organization_id, cost, created_at, provider, model } = row;
  const { requested_model, input_tokens, output_tokens } = row;
  const { cache_write_tokens, cache_hit_tokens } = row;
  return {
    id,
    kilo_user_id,
    organization_id,
    cost,
    created_at,
    provider,
    model,
    requested_model,
    input_tokens,
    output_tokens,
    cache_write_tokens,
    cache_hit_tokens,
  };
}
