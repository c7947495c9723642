import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { readJournal } from '../db/migrate/journal.js';
import { queryOnPool } from '../db/query.js';
import { toLedgerError } from '../db/sqlstate.js';
import { inTransaction } from '../db/transaction.js';
import { LedgerError } from '../errors.js';
import { placeBuckets } from './placement.js';
import {
  JOIN,
  KEEP_BUCKETS,
  LOCK_REGISTRY,
  READ_PLACING,
  REGISTER,
  SHARD_STATE,
  type ShardStateRow,
} from './registry.sql.js';
import { invalidShards } from './shardsFile.js';

/** A shard of the file, and what its database says of itself. */
export interface ShardState extends ShardStateRow {
  name: string;
}

/** @throws LedgerError `unavailable`, `internal` where it is not migrated */
export async function readShardState(name: string, pool: pg.Pool): Promise<ShardState> {
  try {
    const [row] = await queryOnPool(pool, false)<ShardStateRow>(SHARD_STATE);
    if (row === undefined) throw new LedgerError('internal', 'ledger_settings has no row');
    return { name, ...row };
  } catch (error) {
    throw ofShard(name, toLedgerError(error));
  }
}

/** The same error, which names the shard. */
export function ofShard(name: string, error: LedgerError): LedgerError {
  if (error.details.shard !== undefined) return error;
  return new LedgerError(error.code, `shard "${name}": ${error.message}`, {
    details: { ...error.details, shard: name },
    cause: error.cause,
  });
}

/**
 * Whether these are shards of one installation, home first, each once and none missing. Of a shard that is
 * away nothing is said.
 * @param toJoin those that are no shards yet may become ones
 * @throws LedgerError `invalid_request` with the reason
 */
export function checkStates(
  names: readonly string[],
  states: readonly ShardState[],
  toJoin = false,
): void {
  const [homeName] = names;
  const home = states.find(({ name }) => name === homeName);
  const byIdentity = new Map<string, string>();
  for (const state of states) {
    const twin = byIdentity.get(state.identity);
    if (twin !== undefined) throw invalidShards(`"${twin}" and "${state.name}" are one database`);
    byIdentity.set(state.identity, state.name);
    checkOne(state, home, toJoin);
  }
  const missing = (home?.registered ?? []).filter((name) => !names.includes(name));
  if (missing.length > 0) {
    throw invalidShards(`lack ${missing.join(', ')}, which the installation has`);
  }
}

function checkOne(state: ShardState, home: ShardState | undefined, toJoin: boolean): void {
  const { name, shard_name, installation_id } = state;
  if (shard_name !== null && shard_name !== name) {
    throw invalidShards(`"${name}" is "${shard_name}" by what its database says`);
  }
  if (shard_name === null && !toJoin) {
    throw invalidShards(`"${name}" is none yet: run \`microdollar migrate\` with the shards file`);
  }
  if (home === undefined) return;
  if (installation_id !== null && installation_id !== home.installation_id) {
    throw invalidShards(
      home.installation_id === null
        ? `"${name}" belongs to an installation, whose home has to be named first`
        : `"${name}" belongs to another installation`,
    );
  }
  if (state === home) return;
  if (state.registered.length > 0) {
    throw invalidShards(`"${name}" is home by what its database says: name it first`);
  }
  if (shard_name === null && state.has_payers) {
    throw invalidShards(
      `"${name}" has users or organizations of its own: only home may, when it joins`,
    );
  }
}

/**
 * Makes ledgers the shards of one installation: each learns its name, home who they are. Payers that are
 * there stay where they are: of home, or of shards of before, until they are moved. Ended anywhere, it can be
 * called again; with nothing to do it changes nothing.
 * @throws LedgerError `invalid_request` with the reason, and nothing is changed; `unavailable`
 */
export async function joinShards(
  shards: readonly { name: string; pool: pg.Pool }[],
): Promise<{ joined: string[] }> {
  const states = await Promise.all(shards.map(({ name, pool }) => readShardState(name, pool)));
  const names = shards.map(({ name }) => name);
  checkStates(names, states, true);
  const [home] = shards;
  if (home === undefined) throw invalidShards('must be at least one');
  try {
    const installation = await register(home.pool, names, states);
    for (const { name, pool } of shards.slice(1)) await join(pool, installation, name);
  } catch (error) {
    throw toLedgerError(error);
  }
  return {
    joined: states.filter(({ shard_name }) => shard_name === null).map(({ name }) => name),
  };
}

/** On home, in one transaction: its own name, the registry, and who stays where. */
async function register(
  pool: pg.Pool,
  names: readonly string[],
  states: readonly ShardState[],
): Promise<string> {
  return await inTransaction(pool, async (client) => {
    const [homeName] = names as [string];
    const {
      rows: [settings],
    } = await client.query<{ installation_id: string | null }>(LOCK_REGISTRY);
    const installation = settings?.installation_id ?? randomUUID();
    await join(client, installation, homeName);
    const { rows } = await client.query<{ name: string; is_placing: boolean }>(READ_PLACING);
    const known = new Set(rows.map(({ name }) => name));
    const added = names.filter((name) => !known.has(name));
    if (added.length === 0) return installation;
    await client.query(REGISTER, [added]);
    const placing = rows.filter(({ is_placing }) => is_placing).map(({ name }) => name);
    // Of an installation that nobody is in yet nothing has to stay.
    if (!states.some(({ has_payers }) => has_payers)) return installation;
    const before = placeBuckets(placing.length === 0 ? [homeName] : placing);
    const after = placeBuckets([...placing, ...added]);
    const kept = [...before.keys()].filter((bucket) => before[bucket] !== after[bucket]);
    await client.query(KEEP_BUCKETS, [kept, kept.map((bucket) => before[bucket])]);
    return installation;
  });
}

async function join(
  database: Pick<pg.Pool, 'query'>,
  installation: string,
  name: string,
): Promise<void> {
  const { rows } = await database.query(JOIN, [installation, name, shardsMigration()]);
  if (rows.length === 0) throw invalidShards(`"${name}" has become another one meanwhile`);
}

/** By which a program of a version before learns that it must not work here. */
function shardsMigration(): string {
  return readJournal().find(({ name }) => /^\d+_shards$/.test(name))?.name ?? 'shards';
}
