import { randomUUID } from 'node:crypto';
import { queryOnPool } from '../db/query.js';
import type { LedgerOptions } from '../ledgerTypes.js';
import { Directory } from './directory.js';
import { checkStates, type ShardState } from './registry.js';
import { Router } from './router.js';
import { Shard } from './shard.js';
import type { ShardOptions } from './shardsFile.js';

/** Shards that are not opened yet, and what finds the one of a payer once the directory was read. */
export interface Assembly {
  shards: Shard[];
  home: Shard;
  directory: Directory;
  router: Router;
}

/**
 * @param shared options of each shard's ledger
 * @param onDirectoryError told when the directory cannot be read again beside the work
 */
export function assembleShards(
  named: readonly ShardOptions[],
  shared: Omit<LedgerOptions, 'databaseUrl' | 'replicaUrl' | 'schema'>,
  onDirectoryError: (error: unknown) => void,
): Assembly {
  const names = named.map(({ name }) => name);
  const states = new Map<string, ShardState>();
  const check = (state: ShardState) => {
    const others = [...states.values()].filter(({ name }) => name !== state.name);
    checkStates(names, [...others, state]);
    states.set(state.name, state);
  };
  const holdOwner = randomUUID();
  const shards = named.map(
    ({ name, ...own }) => new Shard({ name, options: { ...shared, ...own, holdOwner }, check }),
  );
  const [home] = shards as [Shard, ...Shard[]];
  const directory = new Directory({
    query: async () => queryOnPool((home.ledger ?? (await home.open())).pool, false),
    onError: onDirectoryError,
  });
  const router = new Router(directory, new Map(shards.map((shard) => [shard.name, shard])));
  return { shards, home, directory, router };
}
