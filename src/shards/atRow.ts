import { setTimeout as sleep } from 'node:timers/promises';
import { queryOnPool } from '../db/query.js';
import { LedgerError } from '../errors.js';
import { isUuid } from '../ids.js';
import type { Ledger } from '../ledgerTypes.js';
import { isSharded, onPart } from './parts.js';
import { isMisplaced } from './router.js';
import { type FoundRow, findRowStatement, type RowTable } from './rows.sql.js';

/** How long a call waits for a row whose payer is on the way to another shard. */
const WAIT_MS = 2_000;
const PAUSE_MS = 50;

/**
 * Runs work on the part that has this row, of a payer who is there; on an ordinary ledger, or where no
 * part has it, on the first, which says so. Again where the payer has moved meanwhile: what is refused has
 * done nothing.
 * @throws LedgerError what the work throws; `unavailable` naming a shard that could have it, or while its
 *   payer is on the way for too long; `invalid_request` where two payers have used the id
 */
export async function atRow<T>(
  ledger: Ledger,
  table: RowTable,
  id: string,
  run: (part: Ledger) => Promise<T>,
): Promise<T> {
  const [home] = ledger.parts;
  if (home === undefined) throw new LedgerError('internal', 'a ledger has a part');
  if (!isSharded(ledger) || !isUuid(id)) return await run(home.ledger);
  const deadlineMs = performance.now() + WAIT_MS;
  for (let misses = 0; ; ) {
    const { found, failure } = await findRow(ledger, table, id);
    const [place, other] = found.filter(({ row }) => !row.is_elsewhere);
    if (other !== undefined) throw ambiguous();
    if (place === undefined && failure !== null) throw failure;
    if (found.length === 0 && ++misses > 1) return await run(home.ledger);
    if (place !== undefined) {
      try {
        return await run(place.part);
      } catch (error) {
        if (!hasLeft(error) || performance.now() > deadlineMs) throw error;
        // The same answer again is the answer.
        if (await isStillThere(place.part, table, id)) throw error;
      }
    } else if (found.length > 0) {
      if (performance.now() > deadlineMs) throw onTheWay();
      await sleep(PAUSE_MS);
    }
  }
}

/**
 * Two looks without a trace are needed to know that it is nowhere: of one that moves between the questions to
 * two shards the first look may see neither. A shard that is away matters where no other has the row.
 */
async function findRow(ledger: Ledger, table: RowTable, id: string) {
  let failure: LedgerError | null = null;
  const found = await Promise.all(
    ledger.parts.map(async ({ name, ledger: part }) => {
      try {
        const row = await onPart(name, () => lookFor(part, table, id));
        return row === undefined ? [] : [{ part, row }];
      } catch (error) {
        failure ??= error as LedgerError;
        return [];
      }
    }),
  );
  return { found: found.flat(), failure: failure as LedgerError | null };
}

async function lookFor(part: Ledger, table: RowTable, id: string): Promise<FoundRow | undefined> {
  const [row] = await queryOnPool(part.pool, false)<FoundRow>(findRowStatement(table, id));
  return row;
}

async function isStillThere(part: Ledger, table: RowTable, id: string): Promise<boolean> {
  return (await lookFor(part, table, id))?.is_elsewhere === false;
}

const hasLeft = (error: unknown): boolean =>
  isMisplaced(error) ||
  (error instanceof LedgerError && /^(not_found|unknown_usage)$/.test(error.code));

function onTheWay(): LedgerError {
  return new LedgerError('unavailable', 'its payer is on the way to another shard; send it again');
}

function ambiguous(): LedgerError {
  return new LedgerError('invalid_request', 'the id is of payers of several shards', {
    details: { field: 'id' },
  });
}
