import type pg from 'pg';
import { GRANT_INVARIANTS, GRANT_SOURCES } from './grantInvariants.sql.js';
import { checkGrants, type GrantSources } from './grantTruth.js';
import { FOLDED, INVARIANTS, NEVER_EXCEEDS } from './invariants.sql.js';

/**
 * Checks I1, I2, I5, I7, I8, I13, I14 and I15 over the whole database, in one snapshot, so it may run beside
 * live writers. A raw row that a foreign program wrote is drift until it is backfilled.
 *
 * @returns violations in words, with amounts in microdollars; empty = none
 */
export function checkInvariants(pool: pg.Pool): Promise<string[]> {
  const all = [...INVARIANTS, ...GRANT_INVARIANTS];
  return inOneSnapshot(pool, 'invariants', all, async (client) => {
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
const IS_SMALL = `
select sum(pg_relation_size(name::regclass)) < 8 * 1024 * 1024 as is_small
from unnest(array['microdollar_usage', 'microdollar_usage_daily', 'kilocode_users',
  'exa_usage_log']) as name`;
const PLANNED_ONCE = 'set local enable_seqscan = off; set local enable_nestloop = off';

async function inOneSnapshot(
  pool: pg.Pool,
  name: string,
  statements: readonly string[],
  more: (client: pg.ClientBase) => Promise<string[]> = async () => [],
): Promise<string[]> {
  const text = statements.map((statement) => `(${statement})`).join('\nunion all\n');
  const client = await pool.connect();
  // A server that is killed meanwhile fails the statement, and not the process.
  const ignore = () => {};
  client.on('error', ignore);
  try {
    await client.query('begin isolation level repeatable read read only');
    const [size] = (await client.query<{ is_small: boolean }>({ name: 'is_small', text: IS_SMALL }))
      .rows;
    if (size?.is_small) await client.query(PLANNED_ONCE);
    const { rows } = await client.query<{ message: string }>(
      size?.is_small ? { name, text } : { text },
    );
    const violations = [...rows.map((row) => row.message), ...(await more(client))];
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
