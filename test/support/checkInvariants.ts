import type pg from 'pg';
import { GRANT_INVARIANTS, GRANT_SOURCES } from './grantInvariants.sql.js';
import { checkGrants, type GrantSources } from './grantTruth.js';
import { askable, type Invariant, tablesOf } from './invariant.js';
import { FOLDED, INVARIANTS, NEVER_EXCEEDS, SHARED } from './invariants.sql.js';

/**
 * Checks I1, I2, I5, I7, I8, I13, I14 and I15 over the whole database, in one snapshot, so it may run beside
 * live writers. A raw row that a foreign program wrote is drift until it is backfilled.
 *
 * @returns violations in words, with amounts in microdollars; empty = none
 */
export function checkInvariants(pool: pg.Pool): Promise<string[]> {
  const all = [...INVARIANTS, ...GRANT_INVARIANTS];
  return inOneSnapshot(pool, 'invariants', all, async (client, filled) => {
    if (!filled.includes('credit_expiries')) return [];
    const { rows } = await client.query<GrantSources>(GRANT_SOURCES);
    return rows.flatMap(checkGrants);
  });
}

/** After a fold with no writers: nothing unsettled, and the base tables alone are exact. */
export function checkFolded(pool: pg.Pool): Promise<string[]> {
  return inOneSnapshot(pool, 'folded', FOLDED);
}

/** Where every request is held: nothing is spent, or held, past a limit. */
export function checkNeverExceeds(pool: pg.Pool): Promise<string[]> {
  return inOneSnapshot(pool, 'never_exceeds', NEVER_EXCEEDS);
}

/**
 * Planning is most of what a check of a small database costs, so it is done once a connection. The plan
 * may be from when tables were empty: by index, and no loop over what somebody else has joined,
 * it stays good while they grow, up to a size.
 */
const look = (tables: readonly string[]) => `
select sum(pg_relation_size(name::regclass)) < 8 * 1024 * 1024 as is_small,
  array[${tables.map((table) => `exists (select from ${table})`).join(', ')}]::boolean[] as filled
from unnest(array['microdollar_usage', 'microdollar_usage_daily', 'kilocode_users',
  'exa_usage_log']) as name`;
const PLANNED_ONCE = 'set local enable_seqscan = off; set local enable_nestloop = off';

interface Look {
  is_small: boolean;
  /** Of the tables, in their order: has rows. */
  filled: boolean[];
}

async function inOneSnapshot(
  pool: pg.Pool,
  name: string,
  invariants: readonly Invariant[],
  more: (client: pg.ClientBase, filled: readonly string[]) => Promise<string[]> = async () => [],
): Promise<string[]> {
  const client = await pool.connect();
  // A server that is killed meanwhile fails the statement, and not the process.
  const ignore = () => {};
  client.on('error', ignore);
  try {
    await client.query('begin isolation level repeatable read read only');
    const tables = tablesOf(invariants);
    const looked = await client.query<Look>({ name: `look ${name}`, text: look(tables) });
    const { is_small = false, filled: bits = [] } = looked.rows[0] ?? {};
    const filled = tables.filter((_, index) => bits[index]);
    if (is_small) await client.query(PLANNED_ONCE);
    const asked = askable(invariants, filled);
    const text = SHARED + asked.map((invariant) => `(${invariant.text})`).join('\nunion all\n');
    const { rows } = await client.query<{ message: string }>(
      is_small ? { name: `${name} ${bits.map(Number).join('')}`, text } : { text },
    );
    const violations = [...rows.map((row) => row.message), ...(await more(client, filled))];
    await client.query('commit');
    return violations.sort();
  } catch (error) {
    await client.query('rollback').catch(() => {});
    throw error;
  } finally {
    client.off('error', ignore);
    client.release();
  }
}
