import { microsOf } from '../instant.js';
import type { Ledger, NamedPayer } from '../ledgerTypes.js';
import { mapBounded } from '../shards/mapBounded.js';
import { isSharded } from '../shards/parts.js';
import { MAX_AT_ONCE } from '../shards/scatter.js';
import { type RequestFilters, type RequestRow, requestsStatement } from './queries/requests.sql.js';
import { readRows } from './queries/rows.js';

type Found = RequestRow & { id: string };
/** `micros` is what it is compared by: the text of an odd instant has another order. */
type Position = NonNullable<RequestFilters['after']> & { micros: bigint | number };

export interface RequestPage {
  rows: Found[];
  /** Where the next page goes on; null: there is none. */
  next: Position | null;
  /** The look ended here, for it is bounded; null: it saw all, or filled the page. */
  stoppedAt: Position | null;
  /** ISO 8601. */
  archivedBefore: string | null;
}

/**
 * A page of requests, newest first. Over shards each payer's are asked of its shard, and merged as far
 * back as all of them were looked through.
 */
export async function readRequestPage(
  ledger: Ledger,
  filters: RequestFilters,
  limit: number,
  scanned: number,
): Promise<RequestPage> {
  const looks = await mapBounded(looksOf(ledger, filters), MAX_AT_ONCE, ({ payer, filters: own }) =>
    ledger.ask(payer, ({ readPool }) =>
      readRows<RequestRow>(readPool, requestsStatement(own, limit + 1, scanned)),
    ),
  );
  const bounds: Position[] = [];
  const found = new Map<string, Found>();
  for (const rows of looks) {
    const ofLook = rows.flatMap((row) => (row.id === null ? [] : [{ ...row, id: row.id }]));
    for (const row of ofLook) found.set(row.id, row);
    const bound = boundOf(rows, ofLook, limit, scanned);
    if (bound !== null) bounds.push(bound);
  }
  const [bound = null] = bounds.sort(newestFirst);
  const merged = [...found.values()]
    .sort((a, b) => newestFirst(positionOf(a), positionOf(b)))
    .filter((row) => bound === null || newestFirst(positionOf(row), bound) <= 0);
  const page = merged.slice(0, limit);
  const last = page.at(-1);
  const isFull = merged.length > limit && last !== undefined;
  const horizons = looks.flatMap(([look]) => look?.archived_before ?? []);
  return {
    rows: page,
    next: isFull ? positionOf(last) : bound,
    stoppedAt: isFull ? null : bound,
    archivedBefore: horizons.sort().at(-1) ?? null,
  };
}

/** Of shards one for each payer of whom there may be some. */
function looksOf(
  ledger: Ledger,
  filters: RequestFilters,
): { payer: NamedPayer; filters: RequestFilters }[] {
  const { kiloUserId, organizationId, organizationIds } = filters;
  if (organizationId !== null) return [{ payer: { organization_id: organizationId }, filters }];
  const payer = { kilo_user_id: kiloUserId };
  if (!isSharded(ledger)) return [{ payer, filters }];
  return [
    { payer, filters: { ...filters, organizationIds: [] } },
    ...(organizationIds ?? []).map((id) => ({
      payer: { organization_id: id },
      filters: { ...filters, organizationId: id, organizationIds: null },
    })),
  ];
}

/** Before which there may be more that this look did not see; null: it saw all. */
function boundOf(
  rows: readonly RequestRow[],
  found: readonly Found[],
  limit: number,
  scanned: number,
): Position | null {
  const last = found[limit];
  if (last !== undefined) return positionOf(last);
  const [look] = rows;
  if (Number(look?.scanned ?? 0) < scanned) return null;
  return {
    createdAt: look?.last_created_at ?? '',
    id: look?.last_id ?? '',
    micros: microsOf(look?.last_micros ?? '0'),
  };
}

const positionOf = ({ created_at: createdAt, id, created_micros: micros }: Found): Position => ({
  createdAt,
  id,
  micros: microsOf(micros),
});

function newestFirst(a: Position, b: Position): number {
  if (a.micros !== b.micros) return a.micros > b.micros ? -1 : 1;
  return a.id === b.id ? 0 : a.id > b.id ? -1 : 1;
}
