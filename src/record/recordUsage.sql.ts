import type { Statement } from '../db/statement.js';
import type { ValidEvent } from './event.js';

/** One row: `status`, `created_at`, `new_microdollars_used`, `appended`. */
export interface RecordedRow {
  status:
    | 'recorded'
    | 'duplicate'
    | 'idempotency_conflict'
    | 'unknown_user'
    | 'unknown_organization'
    | 'archived_period';
  created_at: string | null;
  new_microdollars_used: string | null;
  appended: boolean | null;
}

/**
 * Records one event (migration 0001, function microdollar_record_usage): the lean statement for
 * the usual case. Rejected: one CTE statement; its executor start-up alone cost as much as the
 * whole function (203-238 against 160-179 microseconds of CPU in one run, docs/adr/0002).
 */
export function recordUsageStatement(
  event: ValidEvent,
  metadataJson: string | null,
  inPlace: boolean,
): Statement {
  return {
    name: 'microdollar_record_usage',
    text: `/* microdollar.recordUsage */
select status, created_at, new_microdollars_used, appended
from microdollar_record_usage(
  $1::uuid, $2::text, $3::uuid, $4::text, $5::text, $6::text, $7::text, $8::text, $9::bigint,
  $10::bigint, $11::bigint, $12::bigint, $13::bigint, $14::bigint, $15::boolean,
  $16::timestamptz, $17::json, $18::boolean)`,
    values: [
      event.id,
      event.kilo_user_id,
      event.organization_id,
      event.provider,
      event.model,
      event.requested_model,
      event.inference_provider,
      event.project_id,
      event.cost,
      event.input_tokens,
      event.output_tokens,
      event.cache_write_tokens,
      event.cache_hit_tokens,
      event.cache_discount,
      event.has_error,
      event.created_at,
      metadataJson,
      inPlace,
    ],
  };
}
