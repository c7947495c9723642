import { queryOnPool } from '../db/query.js';
import { LedgerError } from '../errors.js';
import { isUuid } from '../ids.js';
import type { Ledger, NamedPayer } from '../ledgerTypes.js';
import { isSharded, onPart } from './parts.js';
import { type FoundRow, findRowStatement, type RowTable } from './rows.sql.js';
import { requireHere } from './standing.js';

/** Two looks without a trace are needed to know that a row is nowhere. */
const LOOKS = 2;

/**
 * Runs work on the part that has this row: of a row that has a payer where the payer is, again where they
 * have moved meanwhile; on an ordinary ledger, or where no part has it, on the first, which says so. What is
 * refused has done nothing.
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
  const [first] = await findRow(ledger, table, id);
  if (first === undefined) return await run(home.ledger);
  const { kilo_user_id, organization_id } = first.row;
  if (kilo_user_id === null && organization_id === null) return await run(first.part);
  const payer = { kilo_user_id, organization_id };
  return await ledger.at(payer, (part) => whereItIs(payer, part, run));
}

/** By its id alone a row of a payer who has left is not there: then it is done where they are. */
async function whereItIs<T>(
  payer: NamedPayer,
  part: Ledger,
  run: (part: Ledger) => Promise<T>,
): Promise<T> {
  try {
    return await run(part);
  } catch (error) {
    const isAbsent = error instanceof LedgerError && /^(not_found|unknown_usage)$/.test(error.code);
    if (isAbsent) await requireHere(part, payer);
    throw error;
  }
}

interface Found {
  part: Ledger;
  row: FoundRow;
}

/**
 * Parts with the row, of one payer. One that moves between the questions to two shards may be seen by neither
 * of them the first time. A shard that is away matters where no other has the row.
 */
async function findRow(ledger: Ledger, table: RowTable, id: string): Promise<Found[]> {
  for (let look = 1; ; look++) {
    const { found, failure } = await lookOnce(ledger, table, id);
    if (found.length > 0) return ofOnePayer(found);
    if (failure !== null) throw failure;
    if (look === LOOKS) return [];
  }
}

async function lookOnce(ledger: Ledger, table: RowTable, id: string) {
  let failure: LedgerError | null = null;
  const found = await Promise.all(
    ledger.parts.map(async ({ name, ledger: part }): Promise<Found[]> => {
      try {
        const query = queryOnPool(part.pool, false);
        const [row] = await onPart(name, () => query<FoundRow>(findRowStatement(table, id)));
        return row === undefined ? [] : [{ part, row }];
      } catch (error) {
        failure ??= error as LedgerError;
        return [];
      }
    }),
  );
  return { found: found.flat(), failure: failure as LedgerError | null };
}

/** @throws LedgerError `invalid_request` of an id that payers of several shards have used */
function ofOnePayer(found: Found[]): Found[] {
  const payers = new Set(
    found.map(
      ({ row }) => `${row.organization_id ?? ''} ${row.organization_id ?? row.kilo_user_id}`,
    ),
  );
  if (payers.size === 1) return found;
  throw new LedgerError('invalid_request', 'the id is of payers of several shards', {
    details: { field: 'id' },
  });
}
