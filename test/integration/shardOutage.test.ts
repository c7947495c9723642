import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createUser } from '../../src/shards/accounts.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import { bucketOf, keyOfPayer, placeBucket } from '../../src/shards/placement.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
