import { v5 as uuidv5 } from 'uuid';
import { toLedgerError } from '../../db/sqlstate.js';
import { LedgerError } from '../../errors.js';
import type { Ledger } from '../../ledgerTypes.js';
import type { RecordResult } from '../../record/types.js';
import { latePriceId } from '../prices/index.js';
import type { DatedUsage } from './records.js';

/** `metadata.estimated` of what a crash left unsettled. */
export const INTENT_WITHOUT_USAGE = 'intent_without_usage';

/** Any constant: ids of corrections follow from the ids of what they correct. */
const CORRECTION_NAMESPACE = 'b0f4f1f5-6b57-4d3c-9a5c-6f0c8a1f2e11';

/** The estimate; `cost` with what it was priced at later, where it had no price at first. */
interface EstimateRow {
  kilo_user_id: string;
  organization_id: string | null;
  cost: string;
  input_tokens: string;
  output_tokens: string;
  cache_write_tokens: string;
  cache_hit_tokens: string;
  created_at: string;
}

/**
 * Records a gateway's usage. If its intent was settled as an estimate meanwhile (its process was
 * taken for dead), the real usage wins: by a signed row that names the estimate and carries its
 * time, so that cost, rollup and balance come out as if there had been no estimate. Token counts
 * cannot be negative: the row carries what the estimate fell short by. Idempotent (I3).
 * @throws LedgerError as `recordUsage`
 */
export async function recordLate(ledger: Ledger, event: DatedUsage): Promise<RecordResult> {
  try {
    return await ledger.recordUsage(event);
  } catch (error) {
    const correction = await correctionFor(ledger, event, error);
    if (correction === null) throw error;
    return await ledger.recordUsage(correction);
  }
}

/** The row that corrects the estimate under the event's id; null when there is no such estimate. */
export async function correctionFor(
  ledger: Ledger,
  event: DatedUsage,
  refusal: unknown,
): Promise<DatedUsage | null> {
  if (!(refusal instanceof LedgerError) || refusal.code !== 'idempotency_conflict') return null;
  const estimate = await findEstimate(ledger, event.id);
  if (
    estimate === null ||
    estimate.kilo_user_id !== event.kilo_user_id ||
    estimate.organization_id !== (event.organization_id?.toLowerCase() ?? null)
  ) {
    return null;
  }
  const missing = (real: number | null | undefined, estimated: string) =>
    Math.max(0, (real ?? 0) - Number(estimated));
  return {
    ...event,
    id: uuidv5(event.id, CORRECTION_NAMESPACE),
    cost: event.cost - Number(estimate.cost),
    input_tokens: missing(event.input_tokens, estimate.input_tokens),
    output_tokens: missing(event.output_tokens, estimate.output_tokens),
    cache_write_tokens: missing(event.cache_write_tokens, estimate.cache_write_tokens),
    cache_hit_tokens: missing(event.cache_hit_tokens, estimate.cache_hit_tokens),
    created_at: estimate.created_at,
    metadata: { ...event.metadata, adjusts_usage_id: event.id },
  };
}

async function findEstimate(ledger: Ledger, id: string): Promise<EstimateRow | null> {
  try {
    const { rows } = await ledger.pool.query<EstimateRow>(
      `/* gateway.findEstimate */
       select u.kilo_user_id, u.organization_id,
         u.cost + coalesce((
           select p.cost from microdollar_usage as p where p.id = $3::uuid
         ), 0) as cost, u.input_tokens, u.output_tokens,
         u.cache_write_tokens, u.cache_hit_tokens,
         to_char(u.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
       from microdollar_usage as u
       join microdollar_usage_metadata as m on m.id = u.id
       where u.id = $1::uuid
         and m.estimated = $2::text`,
      [id, INTENT_WITHOUT_USAGE, latePriceId(id)],
    );
    return rows[0] ?? null;
  } catch (error) {
    throw toLedgerError(error);
  }
}
