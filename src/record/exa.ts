import { v7 as uuidv7 } from 'uuid';
import type { Query } from '../db/query.js';
import type { Statement } from '../db/statement.js';
import { LedgerError } from '../errors.js';
import { type Cleaning, validateEvent } from './event.js';
import { toRecordResult } from './outcome.js';
import type { RecordedRow } from './recordUsage.sql.js';
import type { ExaUsage, RecordResult } from './types.js';

const MAX_PATH_LENGTH = 512;

export type ValidExaUsage = ReturnType<typeof validateExaUsage>;

/** @throws LedgerError `invalid_event` with `details.field` */
export function validateExaUsage(usage: ExaUsage, cleaning: Cleaning, nowMs = Date.now()) {
  const { path, ...rest } = usage;
  // The shared fields have the rules of a usage event; `path` is Exa's own.
  const event = validateEvent({ ...rest, project_id: path }, cleaning, nowMs);
  if (event.project_id === null || event.project_id === '') {
    throw new LedgerError('invalid_event', 'path is required, like /search', {
      details: { field: 'path' },
    });
  }
  if (event.project_id.length > MAX_PATH_LENGTH) {
    throw new LedgerError('invalid_event', `path must have at most ${MAX_PATH_LENGTH} characters`, {
      details: { field: 'path' },
    });
  }
  return {
    id: usage.id ? event.id : uuidv7(),
    kilo_user_id: event.kilo_user_id,
    organization_id: event.organization_id,
    cost: event.cost,
    path: event.project_id,
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

/** Records one Exa request; idempotent by id. @throws LedgerError what the ledger refused */
export async function recordExaUsage(
  query: Query,
  usage: ValidExaUsage,
  freeAllowanceMicrodollars: number,
  inPlace: boolean,
): Promise<RecordResult & { appended: boolean }> {
  const [row] = await query<RecordedRow>(
    recordExaUsageStatement(usage, freeAllowanceMicrodollars, inPlace),
  );
  if (!row) throw new Error('microdollar_record_exa_usage returned no row');
  return { ...toRecordResult(usage, row), appended: row.appended === true };
}
