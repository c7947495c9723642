import { LedgerError } from '../errors.js';
import type { Ledger } from '../ledgerTypes.js';
import type { RecordResult } from '../record/types.js';
import { readUsd, readUuid } from './fields.js';
import { runStatement } from './runStatement.js';

export interface Adjustment extends RecordResult {
  adjusts_usage_id: string;
  kilo_user_id: string;
  organization_id: string | null;
  /** Microdollars, signed. */
  cost: number;
}

interface OriginalRow {
  kilo_user_id: string;
  organization_id: string | null;
  provider: string | null;
  model: string | null;
  requested_model: string | null;
  inference_provider: string | null;
  project_id: string | null;
}

/**
 * Refund (negative USD) or correction of a request: a signed usage row of the same payer, dated
 * now, that names the original in its metadata. Raw, rollup and balance move alike (I6). Give an
 * `id` to make a retry safe (I3).
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
  const id = options.id === undefined ? null : readUuid('id', options.id);
  const [original] = await runStatement<OriginalRow>(
    ledger.pool,
    `/* accounts.findUsageToAdjust */
     select kilo_user_id, organization_id, provider, model, requested_model,
       inference_provider, project_id
     from microdollar_usage
     where id = $1::uuid`,
    [originalId],
  );
  if (original === undefined) {
    throw new LedgerError(
      'unknown_usage',
      'usage_id names no usage row; if its period was archived, record a signed event instead',
      { details: { field: 'usage_id' } },
    );
  }
  const result = await ledger.recordUsage({
    ...original,
    id,
    cost,
    metadata: { adjusts_usage_id: originalId },
  });
  return {
    ...result,
    adjusts_usage_id: originalId,
    kilo_user_id: original.kilo_user_id,
    organization_id: original.organization_id,
    cost,
  };
}
