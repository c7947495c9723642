import type { Statement } from '../db/statement.js';
import { DAILY_ROLLUP, periodOf } from '../schema/rollups.js';
import type { ValidEvent } from './event.js';
import { METADATA_COLUMN_LIST, type MetadataRow, metadataParameters } from './metadataRow.js';

const COLUMNS = `id, kilo_user_id, organization_id, provider, model, requested_model,
    inference_provider, project_id, cost, input_tokens, output_tokens, cache_write_tokens,
    cache_hit_tokens, cache_discount, has_error, created_at`;

const VALUES = `$1::uuid, u.id, $3::uuid, $4::text, $5::text, $6::text, $7::text, $8::text,
    $9::bigint, $10::bigint, $11::bigint, $12::bigint, $13::bigint, $14::bigint, $15::boolean,
    coalesce($16::timestamptz, now())`;

/** The payer must exist, and the event must not lie below the archive horizon. */
const PERSONAL_SOURCE = `from kilocode_users as u
  where u.id = $2::text
    and $3::uuid is null`;
const ORGANIZATION_SOURCE = `from kilocode_users as u
  cross join organizations as o
  where u.id = $2::text
    and o.id = $3::uuid`;

const HORIZON = `and ($16::timestamptz is null or $16::timestamptz >= coalesce(
      (select s.archive_horizon from ledger_settings as s where s.id = 1), '-infinity'))`;

const METADATA_WRITTEN = `, metadata_written as (
  insert into microdollar_usage_metadata (id, kilo_user_id, created_at, ${METADATA_COLUMN_LIST})
  select $1::uuid, $2::text, i.created_at, ${metadataParameters(17)}
  from inserted as i
  where (select u.deleted_at from kilocode_users as u where u.id = $2::text) is null
)`;

/**
 * Appends one event: usage row, metadata, pending delta (I1). Touches no counter row at all.
 *
 * CTEs in reading order: inserted (really new, so all effects derive from it, I3),
 * metadata_written, appended. No row comes back for a replay or a refusal, which a second
 * statement tells apart (rule 6). The payer's balance is not read here: summing a hot
 * payer's pending rows in every statement halved the throughput (docs/adr/0002); `BalanceReader`
 * reads it after the commit, once for all callers that wait.
 */
function appendText(source: string, metadata: string): string {
  return `/* microdollar.appendUsage */
with inserted as (
  insert into microdollar_usage (
    ${COLUMNS})
  select ${VALUES}
  ${source}
    ${HORIZON}
  on conflict (id) do nothing
  returning kilo_user_id, organization_id, cost, created_at
)${metadata}, appended as (
  insert into microdollar_usage_pending
    (kilo_user_id, organization_id, usage_date, cost_microdollars)
  select kilo_user_id, organization_id, ${periodOf(DAILY_ROLLUP, 'created_at')}, cost
  from inserted
  where cost <> 0
)
select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at
from inserted`;
}

const TEXTS = {
  personal: appendText(PERSONAL_SOURCE, ''),
  personal_metadata: appendText(PERSONAL_SOURCE, METADATA_WRITTEN),
  organization: appendText(ORGANIZATION_SOURCE, ''),
  organization_metadata: appendText(ORGANIZATION_SOURCE, METADATA_WRITTEN),
} as const;

/** At most one row: `created_at` of the event, if it was new. */
export function appendUsageStatement(event: ValidEvent, metadata: MetadataRow | null): Statement {
  const scope = event.organization_id === null ? 'personal' : 'organization';
  const variant = metadata === null ? scope : (`${scope}_metadata` as const);
  const values: unknown[] = [
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
  ];
  if (metadata !== null) values.push(...metadata);
  return { name: `microdollar_append_${variant}`, text: TEXTS[variant], values };
}
