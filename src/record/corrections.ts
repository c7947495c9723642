import { v5 as uuidv5 } from 'uuid';
import { isUniqueViolation, toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { readCorrectionsStatement } from './corrections.sql.js';
import type { RecordResult, UsageEvent } from './types.js';

/**
 * Corrections of one usage row: late prices, usage that came late, refunds, adjustments. Each is a
 * signed row that names the original and has the next number of its corrections, so that each is
 * decided in the knowledge of all before it: of two that are decided at once, a unique index lets
 * one in, and the other is decided again. Amounts in microdollars.
 */
export interface CorrectedUsage {
  /** The row itself. */
  original: UsageRow;
  /** In the order of their numbers. */
  corrections: readonly UsageRow[];
  /** Of the next one. */
  nextNumber: number;
}

export interface UsageRow {
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  cost: number;
  input_tokens: number;
  output_tokens: number;
  cache_write_tokens: number;
  cache_hit_tokens: number;
  provider: string | null;
  model: string | null;
  requested_model: string | null;
  inference_provider: string | null;
  project_id: string | null;
  api_key_id: string | null;
  /** ISO 8601 UTC to the microsecond. */
  created_at: string;
  estimated: string | null;
  unpriced: boolean;
  price_source: string | null;
  /** The usage of a request that had been estimated, and came after all. */
  is_late_usage: boolean;
  /** Its time by a clock that was wrong. */
  stated_created_at: string | null;
  /** What it corrects itself. */
  adjusts_usage_id: string | null;
  /** Rows of such a user are stored without metadata: no correction since can be known by it. */
  is_of_deleted_user: boolean;
  /** Its time, by a clock that was fast, is yet to come by the server's. */
  is_ahead: boolean;
}

/** What corrections need of a ledger. */
export interface CorrectionTarget {
  readonly pool: { query<Row>(text: string, values: unknown[]): Promise<{ rows: Row[] }> };
  recordUsage(event: UsageEvent): Promise<RecordResult>;
}

/** Any constant: ids of corrections follow from the ids of what they correct. */
const NAMESPACE = '4d0a5b0e-0e0c-4c53-9e43-7a0f8f1c2b9d';
/** Of corrections with ids of their own; a user who was deleted has no metadata to find them by. */
const OWN_IDS = 8;
/** Every loss means that another correction was recorded. */
const MAX_ATTEMPTS = 20;

/**
 * The id of a correction that only one writer can make: the same number makes the same id, so the
 * primary key decides between two of them even where there is no metadata.
 */
export function correctionId(usageId: string, correctionNumber: number): string {
  const id = usageId.toLowerCase();
  return uuidv5(correctionNumber === 1 ? id : `${id} ${correctionNumber}`, NAMESPACE);
}

/** Whether another correction took the number for which this one was decided. */
export function isNumberTaken(usageId: string, event: UsageEvent, error: unknown): boolean {
  if (!(error instanceof LedgerError)) return false;
  if (isUniqueViolation(error.cause)) return true;
  const number = event.metadata?.correction_number;
  const isOwnId = number != null && event.id === correctionId(usageId, number);
  return isOwnId && error.code === 'idempotency_conflict';
}

/** Null where there is no such row, or no longer. @throws LedgerError `unavailable` */
export async function readCorrections(
  { pool }: Pick<CorrectionTarget, 'pool'>,
  usageId: string,
): Promise<CorrectedUsage | null> {
  const own = Array.from({ length: OWN_IDS }, (_, index) => correctionId(usageId, index + 1));
  const { text, values } = readCorrectionsStatement(usageId, own);
  let rows: StoredRow[];
  try {
    ({ rows } = await pool.query<StoredRow>(text, values as unknown[]));
  } catch (error) {
    throw toLedgerError(error);
  }
  const [original, ...corrections] = rows.map(toUsageRow);
  if (original === undefined || original.id !== usageId.toLowerCase()) return null;
  const numbers = rows.map((row) => row.correction_number ?? 0);
  const nextNumber = Math.max(...numbers, corrections.length) + 1;
  return { original, corrections, nextNumber };
}

/**
 * Records a correction as `decide` makes it of what is there; null: there is nothing to correct.
 * @throws LedgerError as `recordUsage`
 */
export async function recordCorrection(
  target: CorrectionTarget,
  usageId: string,
  decide: (usage: CorrectedUsage | null) => UsageEvent | null,
): Promise<RecordResult | null> {
  for (let attempt = 1; ; attempt++) {
    const event = decide(await readCorrections(target, usageId));
    if (event === null) return null;
    try {
      return await target.recordUsage(event);
    } catch (error) {
      if (!isNumberTaken(usageId, event, error) || attempt === MAX_ATTEMPTS) throw error;
    }
  }
}

interface StoredRow extends Omit<UsageRow, NumberField | 'unpriced' | 'is_late_usage'> {
  cost: string;
  input_tokens: string;
  output_tokens: string;
  cache_write_tokens: string;
  cache_hit_tokens: string;
  unpriced: boolean | null;
  is_late_usage: boolean | null;
  correction_number: number | null;
}
type NumberField =
  | 'cost'
  | 'input_tokens'
  | 'output_tokens'
  | 'cache_write_tokens'
  | 'cache_hit_tokens';

function toUsageRow({ correction_number: _, ...row }: StoredRow): UsageRow {
  return {
    ...row,
    cost: Number(row.cost),
    input_tokens: Number(row.input_tokens),
    output_tokens: Number(row.output_tokens),
    cache_write_tokens: Number(row.cache_write_tokens),
    cache_hit_tokens: Number(row.cache_hit_tokens),
    unpriced: row.unpriced ?? false,
    is_late_usage: row.is_late_usage ?? false,
  };
}
