import { v7 as uuidv7 } from 'uuid';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import type { Ledger } from '../ledgerTypes.js';
import { type CorrectedUsage, recordCorrection } from '../record/corrections.js';
import type { RecordResult, UsageEvent } from '../record/types.js';
import { readUsd } from './fields.js';

export interface Adjustment extends RecordResult {
  adjusts_usage_id: string;
  kilo_user_id: string;
  organization_id: string | null;
  /** Microdollars, signed. */
  cost: number;
}

/**
 * Refund (negative USD) or correction of a request: a signed usage row of the same payer, dated
 * now, that names the original in its metadata. Raw, rollup and balance move alike (I6). Give an
 * `id` to make a retry safe (I3). One that is decided while another correction of the same request
 * is recorded is decided again.
 * @throws LedgerError `invalid_request` (an amount of 0 too), `unknown_usage`, and as `recordUsage`
 */
export async function adjustUsage(
  ledger: Ledger,
  usageId: string,
  usd: string | number,
  options: { id?: string | undefined } = {},
): Promise<Adjustment> {
  const originalId = readUuid('usage_id', usageId);
  const cost = readUsd(usd);
  const id = options.id === undefined ? uuidv7() : readUuid('id', options.id);
  let payer: Pick<Adjustment, 'kilo_user_id' | 'organization_id'> | null = null;
  const result = await recordCorrection(ledger, originalId, (usage) => {
    if (usage === null) throw unknownUsage();
    const { kilo_user_id, organization_id } = usage.original;
    payer = { kilo_user_id, organization_id };
    const isRetry = usage.corrections.some((correction) => correction.id === id);
    return toAdjustment(usage, { id, cost, correctionNumber: isRetry ? null : usage.nextNumber });
  });
  if (result === null || payer === null) throw unknownUsage();
  const { kilo_user_id, organization_id } = payer as Pick<
    Adjustment,
    'kilo_user_id' | 'organization_id'
  >;
  return { ...result, adjusts_usage_id: originalId, kilo_user_id, organization_id, cost };
}

function toAdjustment(
  { original }: CorrectedUsage,
  adjustment: { id: string; cost: number; correctionNumber: number | null },
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
    metadata: {
      adjusts_usage_id: original.id,
      correction_number: adjustment.correctionNumber,
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
