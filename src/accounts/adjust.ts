import { v5 as uuidv5 } from 'uuid';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import type { Ledger } from '../ledgerTypes.js';
import { formatUsd } from '../money.js';
import { type CorrectedUsage, recordCorrection } from '../record/corrections.js';
import type { RecordResult, UsageEvent } from '../record/types.js';
import { invalidField, readUsd } from './fields.js';

export interface Adjustment extends RecordResult {
  adjusts_usage_id: string;
  kilo_user_id: string;
  organization_id: string | null;
  /** Microdollars, signed. */
  cost: number;
}

export interface AdjustmentOptions {
  /**
   * Names this adjustment: the same again is a duplicate. Without one it is named by request and
   * amount, so that a second refund of one amount must say that it is another one.
   */
  id?: string | undefined;
  /** Refunds more than the request cost. */
  force?: boolean | undefined;
}

/** Any constant: the id of an adjustment that is given none follows from what it is. */
const NAMESPACE = '0b1d7c55-3f0c-4a2e-9d2b-5f7a3c1e8d46';

/**
 * Refund (negative USD) or correction of a request: a signed usage row of the same payer, dated
 * now, and never before the original, which it names in its metadata. Raw, rollup and balance move
 * alike (I6). The same again is a `duplicate` (I3). Refunds never bring what a request cost, with all
 * its corrections, below zero, unless forced: one that is decided while another correction of the
 * request is recorded is decided again.
 * @throws LedgerError `invalid_request` (an amount of 0, an adjustment of an adjustment),
 *   `unknown_usage`, `refund_exceeds_cost`, and as `recordUsage`
 */
export async function adjustUsage(
  ledger: Ledger,
  usageId: string,
  usd: string | number,
  options: AdjustmentOptions = {},
): Promise<Adjustment> {
  const originalId = readUuid('usage_id', usageId);
  const cost = readUsd(usd);
  const id =
    options.id === undefined
      ? uuidv5(`${originalId} ${cost}`, NAMESPACE)
      : readUuid('id', options.id);
  let payer: Pick<Adjustment, 'kilo_user_id' | 'organization_id'> | null = null;
  const result = await recordCorrection(ledger, originalId, (usage) => {
    if (usage === null) throw unknownUsage();
    const { kilo_user_id, organization_id } = usage.original;
    payer = { kilo_user_id, organization_id };
    const isRetry = usage.corrections.some((correction) => correction.id === id);
    if (!isRetry) refuse(usage, cost, options.force ?? false);
    return toAdjustment(usage, { id, cost, isRetry });
  });
  if (result === null || payer === null) throw unknownUsage();
  const { kilo_user_id, organization_id } = payer as Pick<
    Adjustment,
    'kilo_user_id' | 'organization_id'
  >;
  return { ...result, adjusts_usage_id: originalId, kilo_user_id, organization_id, cost };
}

/** @throws LedgerError where this adjustment must not be recorded */
function refuse({ original, corrections }: CorrectedUsage, cost: number, isForced: boolean): void {
  if (original.adjusts_usage_id !== null) {
    throw invalidField(
      'usage_id',
      `is a correction of ${original.adjusts_usage_id}: adjust that one`,
    );
  }
  if (cost > 0 || isForced) return;
  if (original.is_of_deleted_user) {
    throw exceedsCost('its user was deleted, so earlier refunds of it cannot be known');
  }
  // Sums of safe integers may not be one.
  const left = [original, ...corrections].reduce((sum, row) => sum + BigInt(row.cost), 0n);
  if (left + BigInt(cost) < 0n) {
    const message =
      left > 0n
        ? `of this request ${formatUsd(left)} USD are left to refund`
        : 'nothing of this request is left to refund';
    throw exceedsCost(message);
  }
}

function exceedsCost(message: string): LedgerError {
  return new LedgerError(
    'refund_exceeds_cost',
    `${message}; set force to refund more than it cost`,
    {
      details: { field: 'usd' },
    },
  );
}

function toAdjustment(
  { original, nextNumber }: CorrectedUsage,
  adjustment: { id: string; cost: number; isRetry: boolean },
): UsageEvent {
  const { provider, model, requested_model, inference_provider } = original;
  const { project_id, api_key_id } = original;
  return {
    id: adjustment.id,
    kilo_user_id: original.kilo_user_id,
    organization_id: original.organization_id,
    cost: adjustment.cost,
    provider,
    model,
    requested_model,
    inference_provider,
    project_id,
    api_key_id,
    // An archive of the day before the original's would take a refund alone, which could be made again. One
    // that is known keeps its time.
    ...(original.is_ahead && !adjustment.isRetry ? { created_at: original.created_at } : {}),
    metadata: {
      adjusts_usage_id: original.id,
      correction_number: adjustment.isRetry ? null : nextNumber,
    },
  };
}

function unknownUsage(): LedgerError {
  return new LedgerError(
    'unknown_usage',
    'usage_id names no usage row; if its period was archived, record a signed event instead',
    { details: { field: 'usage_id' } },
  );
}
