import { inSchema } from '../../db/ledgerSchema.js';
import { assertMigrated } from '../../db/migrate.js';
import { createPool, READ_SETTINGS } from '../../db/pool.js';
import { queryOnPool } from '../../db/query.js';
import { toLedgerError } from '../../db/sqlstate.js';
import type { LedgerError } from '../../errors.js';
import { checkStates, ofShard, readShardState } from '../registry.js';
import { readShards, type ShardOptions } from '../shardsFile.js';
import { Moves } from './moves.js';
import { SHARD_STATUS, type ShardStatusRow } from './status.sql.js';
import type { MoveShard } from './types.js';

/** On each shard: the lock, the directory, a transaction that hands over, and what it folds meanwhile. */
const CONNECTIONS = 5;
const LOCK_TIMEOUT_MS = 2_000;
const STATEMENT_TIMEOUT_MS = 60_000;

export type ShardStatus =
  | ({ name: string } & ShardStatusRow)
  | { name: string; error: LedgerError };

export interface OpenMoves extends AsyncDisposable {
  moves: Moves;
  /** Of every shard; one that is away says why. */
  status(): Promise<ShardStatus[]>;
  close(): Promise<void>;
}

/**
 * Connections for moves between the shards of an installation, the first of them home. They must lead
 * straight to the servers: a pooler in transaction mode would lose the lock of whoever moves.
 * @throws LedgerError `invalid_request` naming what is wrong with the shards; `unavailable`
 */
export async function openMoves(shards: readonly ShardOptions[]): Promise<OpenMoves> {
  const opened = readShards(shards).map(({ name, databaseUrl, schema }) => ({
    name,
    pool: createPool({
      url: inSchema(databaseUrl, schema),
      size: CONNECTIONS,
      applicationName: 'microdollar move',
      lockTimeoutMs: LOCK_TIMEOUT_MS,
      statementTimeoutMs: STATEMENT_TIMEOUT_MS,
      settings: READ_SETTINGS,
    }),
  })) as [MoveShard, ...MoveShard[]];
  const close = async () => {
    await Promise.all(opened.map(({ pool }) => pool.end()));
  };
  return {
    moves: new Moves({ shards: opened, check: () => requireInstallation(opened) }),
    status: () => Promise.all(opened.map(readStatus)),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** @throws LedgerError `invalid_request` with the reason; `unavailable` */
async function requireInstallation(shards: readonly MoveShard[]): Promise<void> {
  const states = await Promise.all(
    shards.map(async ({ name, pool }) => {
      const state = await readShardState(name, pool);
      await assertMigrated(pool);
      return state;
    }),
  );
  checkStates(
    shards.map(({ name }) => name),
    states,
  );
}

async function readStatus({ name, pool }: MoveShard): Promise<ShardStatus> {
  try {
    const [row] = await queryOnPool(pool, false)<ShardStatusRow>(SHARD_STATUS);
    return { name, ...(row as ShardStatusRow) };
  } catch (error) {
    return { name, error: ofShard(name, toLedgerError(error)) };
  }
}
