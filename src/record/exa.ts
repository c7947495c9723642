import type { Query } from '../db/query.js';
import { withRetry } from '../db/retry.js';
import type { Statement } from '../db/statement.js';
import { type Cleaning, invalid, readText, requireKnownFields, validateEvent } from './event.js';
import { toRecordResult } from './outcome.js';
import type { RecordedRow } from './recordUsage.sql.js';
import type { ExaUsage, RecordResult } from './types.js';

const PATH_RULE = { maxLength: 512, minLength: 1 };
const EXA_FIELDS = ['id', 'kilo_user_id', 'organization_id', 'cost', 'path', 'created_at'];

export type ValidExaUsage = ReturnType<typeof validateExaUsage>;

/** @throws LedgerError `invalid_event` with `details.field` */
export function validateExaUsage(usage: ExaUsage, cleaning: Cleaning, nowMs = Date.now()) {
  requireKnownFields(usage, EXA_FIELDS);
  const { path, ...shared } = usage;
  const event = validateEvent(shared, cleaning, nowMs);
  if (path === undefined || path === null) throw invalid('path', 'is required, like /search');
  return {
    id: event.id,
    kilo_user_id: event.kilo_user_id,
    organization_id: event.organization_id,
    cost: event.cost,
    path: readText('path', path, PATH_RULE, cleaning),
    created_at: event.created_at,
  };
}

/** Migration 0001, function microdollar_record_exa_usage. */
export function recordExaUsageStatement(
  usage: ValidExaUsage,
  freeAllowanceMicrodollars: number,
  inPlace: boolean,
): Statement {
  return {
    name: 'microdollar_record_exa_usage',
    text: `/* microdollar.recordExaUsage */
select status, created_at, new_microdollars_used, appended
from microdollar_record_exa_usage(
  $1::uuid, $2::text, $3::uuid, $4::bigint, $5::text, $6::timestamptz, $7::bigint, $8::boolean)`,
    values: [
      usage.id,
      usage.kilo_user_id,
      usage.organization_id,
      usage.cost,
      usage.path,
      usage.created_at,
      freeAllowanceMicrodollars,
      inPlace,
    ],
  };
}

/**
 * Records one Exa request; idempotent by id. Failures of the database are retried, refusals not.
 * @throws LedgerError what the ledger refused
 */
export async function recordExaUsage(
  query: Query,
  usage: ValidExaUsage,
  freeAllowanceMicrodollars: number,
  inPlace: boolean,
  onRetry: (cause: string) => void,
): Promise<RecordResult & { appended: boolean }> {
  const statement = recordExaUsageStatement(usage, freeAllowanceMicrodollars, inPlace);
  const [row] = await withRetry(() => query<RecordedRow>(statement), { onRetry });
  if (!row) throw new Error('microdollar_record_exa_usage returned no row');
  return { ...toRecordResult(usage, row), appended: row.appended === true };
}
