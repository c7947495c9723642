import { queryOnPool } from '../db/query.js';
import { toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import type { Ledger, LedgerParts, NamedPayer } from '../ledgerTypes.js';
import { PLACES } from './directory.sql.js';
import { mapBounded } from './mapBounded.js';
import { ofShard } from './registry.js';
import { MAX_AT_ONCE } from './scatter.js';

/** Of a list that is asked while payers move. */
const MAX_TRIES = 5;

/** A ledger of several databases. */
export const isSharded = ({ parts }: Pick<LedgerParts<unknown>, 'parts'>): boolean =>
  parts.some(({ name }) => name !== null);

/** This process has reached it; another one refuses whatever it is asked. */
export const isReached = (part: Ledger): boolean => typeof part.databaseUrl === 'string';

/**
 * The answers of all parts, home first: of an ordinary ledger its own. Each is exact in a snapshot of its
 * own. A payer that moves meanwhile is in one of them at least, for then they are asked again; who merges
 * them tells two of a kind apart.
 * @throws LedgerError of one that did not answer, naming the shard: without it they would be incomplete
 */
export async function askParts<T>(
  ledger: Pick<Ledger, 'parts'>,
  ask: (part: Ledger, name: string | null) => Promise<T>,
): Promise<T[]> {
  const { parts } = ledger;
  const askAll = () =>
    mapBounded(parts, MAX_AT_ONCE, ({ name, ledger: part }) => onPart(name, () => ask(part, name)));
  if (!isSharded(ledger)) return await askAll();
  let before = await placesNow(ledger);
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const answers = await askAll();
    const after = await placesNow(ledger);
    // A switch comes between the commits of the two shards: without one nobody was missed by both.
    if (after === before) return answers;
    before = after;
  }
  throw new LedgerError('unavailable', 'payers move all the time; ask again');
}

/** Where payers are by rows of their own, as one number: another after each switch. Null: home is away. */
async function placesNow({ parts }: Pick<Ledger, 'parts'>): Promise<string | null> {
  const [home] = parts;
  if (home === undefined) throw new LedgerError('internal', 'a ledger has a part');
  try {
    const [row] = await queryOnPool(home.ledger.pool, false)<{ places: string }>(PLACES);
    return row?.places ?? '';
  } catch {
    // Nobody moves meanwhile: the mover needs home.
    return null;
  }
}

/**
 * Items by the part that has their payer, as far as this process knows; those of a shard that could not be
 * reached yet with why.
 */
export async function groupByPart<Item>(
  ledger: Ledger,
  items: readonly Item[],
  payerOf: (item: Item) => NamedPayer,
): Promise<{ byPart: Map<Ledger, Item[]>; away: { item: Item; error: LedgerError }[] }> {
  const byPart = new Map<Ledger, Item[]>();
  const away: { item: Item; error: LedgerError }[] = [];
  for (const item of items) {
    try {
      const part = await ledger.of(payerOf(item));
      const same = byPart.get(part);
      if (same === undefined) byPart.set(part, [item]);
      else same.push(item);
    } catch (error) {
      away.push({ item, error: toLedgerError(error) });
    }
  }
  return { byPart, away };
}

/** Of a part that is named: its failure names it. */
export async function onPart<T>(name: string | null, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (name === null) throw error;
    throw ofShard(name, toLedgerError(error));
  }
}

/** @throws LedgerError `invalid_request` naming the shards that there are */
export function partNamed({ parts }: Pick<Ledger, 'parts'>, name: string): Ledger {
  const found = parts.find((part) => part.name === name);
  if (found !== undefined) return found.ledger;
  const names = parts.flatMap((part) => part.name ?? []).join(', ');
  throw new LedgerError(
    'invalid_request',
    names === ''
      ? 'shard is for a ledger of shards'
      : `shard names none of the shards, which are ${names}`,
    { details: { field: 'shard' } },
  );
}
