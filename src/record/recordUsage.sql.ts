import type { Statement } from '../db/statement.js';
import type { ValidEvent } from './event.js';
import { METADATA_COLUMN_LIST, type MetadataRow, metadataParameters } from './metadataRow.js';

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

const RECORD = `select status, created_at, new_microdollars_used, appended
from microdollar_record_usage(
  $1::uuid, $2::text, $3::uuid, $4::text, $5::text, $6::text, $7::text, $8::text, $9::bigint,
  $10::bigint, $11::bigint, $12::bigint, $13::bigint, $14::bigint, $15::boolean,
  $16::timestamptz, null, $17::boolean)`;

const TEXT = `/* microdollar.recordUsage */
${RECORD}`;

/** Personal data of a soft-deleted user is not stored again (I11). */
const TEXT_WITH_METADATA = `/* microdollar.recordUsage */
with recorded as materialized (
${RECORD}
), metadata_written as (
  insert into microdollar_usage_metadata (id, kilo_user_id, created_at, ${METADATA_COLUMN_LIST})
  select $1::uuid, $2::text, coalesce($16::timestamptz, now()), ${metadataParameters(18)}
  from recorded
  where status = 'recorded'
    and (select u.deleted_at from kilocode_users as u where u.id = $2::text) is null
)
select status, created_at, new_microdollars_used, appended
from recorded`;

/**
 * Records one event (migration 0001, function microdollar_record_usage): the lean statement for
 * the usual case. Rejected: one CTE statement for all of it; its executor start-up alone cost as
 * much as the whole function (203-238 against 160-179 microseconds of CPU in one run), and
 * metadata through the function as JSON, which cost a third of the statement (docs/adr/0002).
 */
export function recordUsageStatement(
  event: ValidEvent,
  metadata: MetadataRow | null,
  inPlace: boolean,
): Statement {
  return {
    name: metadata ? 'microdollar_record_usage_metadata' : 'microdollar_record_usage',
    text: metadata ? TEXT_WITH_METADATA : TEXT,
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
      inPlace,
      ...(metadata ?? []),
    ],
  };
}
