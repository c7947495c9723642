import { inSchema } from '../../db/ledgerSchema.js';
import type { ShardOptions } from '../../shards/shardsFile.js';
import type { Environment } from '../environment.js';

/** The environment of a command that runs on this one of the shards. */
export function onShard(environment: Environment, shard: ShardOptions): Environment {
  // As of one database: a pooler takes no startup options.
  const place = (url: string) =>
    environment.pooler === null ? inSchema(url, shard.schema ?? null) : url;
  return {
    ...environment,
    databaseUrl: place(shard.databaseUrl),
    replicaUrl: shard.replicaUrl === undefined ? null : place(shard.replicaUrl),
    migrationUrl: null,
    schema: shard.schema ?? null,
    shards: null,
  };
}
