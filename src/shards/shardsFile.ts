import { readFileSync } from 'node:fs';
import { onCitus } from '../db/citus/placedUrl.js';
import { validateSchema } from '../db/ledgerSchema.js';
import { LedgerError } from '../errors.js';

/** One shard as its owner names it. */
export interface ShardOptions {
  /** 1-32 of a-z, 0-9, `_` and `-`; for ever. */
  name: string;
  /** Primary, PostgreSQL 15-18. */
  databaseUrl: string;
  /** Reads that may be slightly stale. */
  replicaUrl?: string | undefined;
  /** Where it lives in its database; default: where the role's search path leads, as a rule `public`. */
  schema?: string | undefined;
  /**
   * A schema that Citus places: `databaseUrl` is the coordinator's, and work goes to the worker that has
   * it, with the same role (docs/operations/citus.md). In place of `schema`, and without a replica.
   */
  citusSchema?: string | undefined;
}

const NAME = /^[a-z0-9_-]{1,32}$/;
const FIELDS: readonly string[] = ['name', 'databaseUrl', 'replicaUrl', 'schema', 'citusSchema'];
const MAX_SHARDS = 256;

/**
 * Shards as `createLedger` and the shards file name them; the first is home.
 * @throws LedgerError `invalid_request` naming the shard and what is wrong, never a URL
 */
export function readShards(shards: unknown): ShardOptions[] {
  if (!Array.isArray(shards) || shards.length === 0) {
    throw invalidShards('must be a list of at least one shard, the first of them home');
  }
  if (shards.length > MAX_SHARDS)
    throw invalidShards(`are ${shards.length}, at most ${MAX_SHARDS}`);
  const read = shards.map(readShard);
  const names = new Set<string>();
  for (const { name } of read) {
    if (names.has(name)) throw invalidShards(`name "${name}" twice`);
    names.add(name);
  }
  return read;
}

function readShard(shard: unknown, index: number): ShardOptions {
  const which = `number ${index + 1}`;
  if (typeof shard !== 'object' || shard === null || Array.isArray(shard)) {
    throw invalidShards(`${which} must be an object like { name, databaseUrl }`);
  }
  const unknown = Object.keys(shard).find((field) => !FIELDS.includes(field));
  if (unknown !== undefined) {
    throw invalidShards(`${which} has "${unknown.slice(0, 100)}"; known: ${FIELDS.join(', ')}`);
  }
  const { name, databaseUrl, replicaUrl, schema, citusSchema } = shard as Record<string, unknown>;
  if (typeof name !== 'string' || !NAME.test(name)) {
    throw invalidShards(`${which} needs a name of 1-32 characters of a-z, 0-9, "_" and "-"`);
  }
  if (!isUrl(databaseUrl)) throw invalidShards(`"${name}" needs a databaseUrl, postgres://...`);
  if (replicaUrl !== undefined && !isUrl(replicaUrl)) {
    throw invalidShards(`"${name}" has a replicaUrl that is none, postgres://...`);
  }
  if (schema !== undefined && typeof schema !== 'string') {
    throw invalidShards(`"${name}" has a schema that is no text`);
  }
  if (schema !== undefined) validateSchema(schema);
  if (citusSchema !== undefined) {
    if (typeof citusSchema !== 'string') {
      throw invalidShards(`"${name}" has a citusSchema that is no text`);
    }
    if (schema !== undefined || replicaUrl !== undefined) {
      throw invalidShards(
        `"${name}" has a citusSchema, with which goes no schema and no replicaUrl`,
      );
    }
    return { name, databaseUrl: onCitus(databaseUrl, citusSchema) };
  }
  return {
    name,
    databaseUrl,
    ...(replicaUrl === undefined ? {} : { replicaUrl }),
    ...(schema === undefined ? {} : { schema }),
  };
}

const isUrl = (value: unknown): value is string =>
  typeof value === 'string' && /^postgres(ql)?:\/\//.test(value);

/**
 * The shards file (docs/scaling.md): JSON, a list of shards, or `{ "shards": [...] }`.
 * @throws LedgerError `invalid_request`
 */
export function readShardsFile(file: string): ShardOptions[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw invalidShards(
      `file ${file} cannot be read: ${(cause as NodeJS.ErrnoException).code}`,
      cause,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    // The parser quotes what it met, which may be a password.
    throw invalidShards('file is not JSON', cause);
  }
  const list = (value as { shards?: unknown } | null)?.shards;
  return readShards(list === undefined ? value : list);
}

export function invalidShards(problem: string, cause?: unknown): LedgerError {
  return new LedgerError('invalid_request', `shards ${problem}`, {
    details: { field: 'shards' },
    ...(cause === undefined ? {} : { cause }),
  });
}
