import { LedgerError } from '../../errors.js';
import type { Ledger, NamedPayer } from '../../ledgerTypes.js';
import type { Accounts } from '../../shards/accounts.js';
import { assembleShards } from '../../shards/assembly.js';
import { askEach, standIn } from '../../shards/scatter.js';
import type { ShardOptions } from '../../shards/shardsFile.js';
import { describeFailure } from '../database.js';
import type { Environment } from '../environment.js';
import { onShard } from './onShard.js';

/** Finds the shard of a payer. */
export interface Finder {
  accounts: Accounts;
  /** Runs work for the shard that has this payer; again where it refuses the payer (shards/router.ts). */
  at<T>(payer: NamedPayer, run: (shard: string) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/**
 * Opens home, of the others only those that are asked for: one that is away does not hold up a payer of
 * another one.
 * @param isEverywhere all are opened that can be reached
 * @throws LedgerError `unavailable` while home is away
 */
export async function openFinder(
  environment: Environment,
  named: readonly ShardOptions[],
  isEverywhere: boolean,
): Promise<Finder> {
  const shared = {
    poolSize: 2,
    backgroundFold: false,
    preparedStatements: environment.pooler === null,
  };
  const { shards, home, directory, router } = assembleShards(named, shared, () => {});
  const close = async () => {
    await Promise.all(shards.map((shard) => shard.close()));
  };
  try {
    await reachHome(environment, named, async () => {
      await home.open();
      await directory.refresh();
    });
    if (isEverywhere) await askEach(shards, async () => {});
  } catch (error) {
    await close();
    throw error;
  }
  return {
    accounts: {
      at: (payer, run) => router.at(payer, (ledger: Ledger) => run(ledger)),
      get parts() {
        return shards.map((shard) => ({ name: shard.name, ledger: standIn(shard) }));
      },
    },
    at: (payer, run) => router.at(payer, (_ledger, { name }) => run(name)),
    close,
  };
}

/** @throws LedgerError that says where home would be */
async function reachHome(
  environment: Environment,
  [home]: readonly ShardOptions[],
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (home === undefined || !(error instanceof LedgerError)) throw error;
    const { databaseUrl } = onShard(environment, home);
    const { shard, ...details } = error.details;
    // What names its shard is taken to be told already.
    const bare = new LedgerError(error.code, error.message, { details, cause: error.cause });
    const told = describeFailure(bare, databaseUrl ?? '', 'the shards file');
    throw new LedgerError(told.code, told.message, {
      details: { ...told.details, shard },
      cause: error,
    });
  }
}
