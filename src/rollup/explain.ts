import type { Query } from '../db/query.js';
import { toExactInteger } from '../money.js';
import type { Rollup } from '../schema/rollups.js';
import type { ChunkFinding } from './compare.js';
import { findUncountedStatement, type PayerRow, payerExistsStatement } from './explain.sql.js';

export type DriftKind = 'wrong' | 'missing' | 'orphan';

/** A key whose reported total is not what its sources say. Amounts are bigints past 2^53. */
export interface Drift {
  kind: DriftKind;
  rollup: string;
  /** First UTC day. */
  period: string;
  kiloUserId: string;
  organizationId: string | null;
  /** Row and unsettled rows, microdollars. */
  reportedMicrodollars: number | bigint;
  /** Raw rows and what was archived from them, microdollars. */
  trueMicrodollars: number | bigint;
  /** Reported minus true, microdollars. */
  driftMicrodollars: number | bigint;
  /** Reported minus true; of Exa and the rollups by dimension. */
  requestDrift: number;
  likelyCause: string;
  counterId: string | null;
  /** Whether a counter row can hold what is true; if not, no repair helps. */
  fits: boolean;
  /** Too many raw rows for one short statement. */
  isLarge: boolean;
}

export async function explain(
  query: Query,
  rollup: Rollup,
  period: string,
  finding: ChunkFinding,
): Promise<Drift> {
  const reported = BigInt(finding.row_total) + BigInt(finding.unsettled_cost);
  const truth = BigInt(finding.raw_cost) + BigInt(finding.archived_cost);
  const kind = kindOf(finding, truth);
  return {
    kind,
    rollup: rollup.name,
    period,
    kiloUserId: finding.kilo_user_id,
    organizationId: finding.organization_id,
    reportedMicrodollars: toExactInteger(reported),
    trueMicrodollars: toExactInteger(truth),
    driftMicrodollars: toExactInteger(finding.drift),
    requestDrift: Number(finding.request_drift),
    likelyCause: await likelyCause(query, rollup, period, finding, kind),
    counterId: finding.counter_id,
    fits: finding.fits,
    isLarge: finding.isLarge,
  };
}

function kindOf(finding: ChunkFinding, truth: bigint): DriftKind {
  if (finding.counter_id === null) return 'missing';
  return Number(finding.raw_rows) === 0 && truth === 0n ? 'orphan' : 'wrong';
}

/** A guess that helps to find the culprit; never used to correct anything. */
async function likelyCause(
  query: Query,
  rollup: Rollup,
  period: string,
  finding: ChunkFinding,
  kind: DriftKind,
): Promise<string> {
  if (!finding.fits) {
    return 'more than a counter row can hold (2^63): raw rows with extreme cost of another program';
  }
  const [payer] = await query<PayerRow>(payerExistsStatement(finding));
  if (!payer?.exists) return 'its payer does not exist: create it, or remove its raw rows';
  const drift = BigInt(finding.drift);
  if (kind === 'missing') {
    return BigInt(finding.unsettled_cost) === 0n
      ? 'no counter row: raw rows written by another program, or never built, or the row deleted'
      : 'counter row deleted while rows of its key were unsettled';
  }
  if (kind === 'orphan') return 'counter row without raw rows: raw rows deleted, or row planted';
  if (drift === 0n) return 'number of requests changed';
  if (drift > 0n) return 'raw row deleted behind the back, or total raised, or a mark lowered';
  // One look for a single row is not worth reading a huge day once more.
  const match = finding.isLarge
    ? undefined
    : (await query<{ id: string }>(findUncountedStatement(rollup, period, finding)))[0];
  return match
    ? `raw row ${match.id} is not counted: written by another program, or its position removed`
    : 'raw rows are not counted, the total was lowered, or a mark raised';
}
