import { join } from 'node:path';
import { DEFAULT_KEPT_DAYS } from '../alerts/keptDays.js';
import { inSchema, validateSchema } from '../db/ledgerSchema.js';
import { LedgerError } from '../errors.js';
import { createClientAddressReader } from '../gateway/proxy/clientAddress.js';
import { isKeyOfHeader, NO_KEY_OF_HEADER } from '../gateway/proxy/keyOfHeader.js';
import { readShardsFile, type ShardOptions } from '../shards/shardsFile.js';
import { readTelemetrySettings, type TelemetrySettings } from '../telemetry/settings.js';

/** The environment, read once per command. */
export interface Environment {
  /** Each with the schema in it (db/ledgerSchema.ts), but that of a pooler. */
  databaseUrl: string | null;
  migrationUrl: string | null;
  replicaUrl: string | null;
  /** `DATABASE_URL` is that of a pooler in transaction mode. */
  pooler: 'transaction' | null;
  /** Where the ledger lives in its database; null: where the role's search path leads. */
  schema: string | null;
  /** Of `MICRODOLLAR_SHARDS_FILE`, in place of `databaseUrl` and what goes with it; null: one database. */
  shards: ShardOptions[] | null;
  dataDir: string;
  host: string;
  port: number;
  adminKey: string | null;
  logLevel: LogLevel;
  /** Providers behind the gateway: base URL and key, where they are set. */
  upstreams: Record<'openai' | 'anthropic', { url?: string; key?: string }>;
  /** Own prices and multipliers (JSON); src/gateway/prices/README.md. */
  pricesFile: string | null;
  /** Addresses and ranges whose `x-forwarded-for` is believed. */
  trustedProxies: string[];
  gateway: GatewayEnvironment;
  /** Webhooks of alerts may be http, and lead into the operator's own network. */
  allowsPrivateWebhooks: boolean;
  /** How long alerts that were delivered are kept, days. */
  keepAlertsDays: number;
  /** Monthly tiers in USD, ascending, shown on the profile; empty = none. */
  tiersUsd: number[];
  /** Of a graceful stop, from the signal to the end of the process, ms. */
  shutdownMs: number;
  /** Where spans and metrics are sent (docs/telemetry.md). */
  telemetry: TelemetrySettings;
}

export interface GatewayEnvironment {
  /** More providers (JSON); docs/gateway.md. */
  upstreamsFile: string | null;
  /** Requests at once per payer and process. */
  maxInFlight: number;
  /** What becomes of the provider's work when its client leaves; null = as each API bills. */
  onAbort: 'stop' | 'drain' | null;
  /** How money is held before a provider is called. */
  holds: 'strict' | 'expected' | 'off';
  /** What becomes of a stream that outgrows what can be held for it. */
  onOutgrown: 'continue' | 'end';
  /** Origins of pages that may call the gateway from a browser. */
  corsOrigins: string[];
  /** What traces may tell beyond what they always do. */
  traces: { payer: boolean; upstream: boolean };
}

const DEFAULT_MAX_IN_FLIGHT = 64;
const DEFAULT_SHUTDOWN_MS = 25_000;
const MAX_SHUTDOWN_MS = 3_600_000;
const MAX_TIERS = 6;

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** @throws LedgerError `invalid_request` naming the variable, never its value */
export function readEnvironment(env: NodeJS.ProcessEnv): Environment {
  const pooler = readPooler(env);
  const schema = readSchema(env);
  const place = (url: string | null) => (url === null ? null : inSchema(url, schema));
  // A pooler takes no startup options: its roles have the search path.
  const placeDirect = (url: string | null) => (pooler === null ? place(url) : url);
  return {
    databaseUrl: placeDirect(readUrl(env, 'DATABASE_URL')),
    migrationUrl: place(readUrl(env, 'MICRODOLLAR_MIGRATION_URL')),
    replicaUrl: placeDirect(readUrl(env, 'DATABASE_REPLICA_URL')),
    pooler,
    schema,
    shards: readShards(env),
    dataDir: read(env, 'MICRODOLLAR_DATA_DIR') ?? '.microdollar',
    host: read(env, 'HOST') ?? '127.0.0.1',
    port: readPort(read(env, 'PORT')),
    adminKey: readKey(env, 'MICRODOLLAR_ADMIN_KEY'),
    logLevel: readLogLevel(read(env, 'LOG_LEVEL')),
    upstreams: {
      openai: readUpstream(env, 'MICRODOLLAR_OPENAI'),
      anthropic: readUpstream(env, 'MICRODOLLAR_ANTHROPIC'),
    },
    pricesFile: read(env, 'MICRODOLLAR_PRICES_FILE'),
    trustedProxies: readProxies(env),
    gateway: {
      upstreamsFile: read(env, 'MICRODOLLAR_UPSTREAMS_FILE'),
      maxInFlight: readCount(env, 'MICRODOLLAR_MAX_IN_FLIGHT', DEFAULT_MAX_IN_FLIGHT, 100_000),
      onAbort: readOnAbort(env),
      holds: readOneOf(env, 'MICRODOLLAR_HOLDS', ['expected', 'strict', 'off']),
      onOutgrown: readOneOf(env, 'MICRODOLLAR_ON_OUTGROWN', ['continue', 'end']),
      corsOrigins: readList(env, 'MICRODOLLAR_CORS_ORIGINS').map(readOrigin),
      traces: readTraceAllowances(env),
    },
    allowsPrivateWebhooks:
      readOneOf(env, 'MICRODOLLAR_ALERTS_ALLOW_PRIVATE', ['false', 'true']) === 'true',
    keepAlertsDays: readCount(env, 'MICRODOLLAR_ALERTS_KEEP_DAYS', DEFAULT_KEPT_DAYS, 36_500),
    tiersUsd: readTiers(env),
    shutdownMs: readCount(env, 'MICRODOLLAR_SHUTDOWN_MS', DEFAULT_SHUTDOWN_MS, MAX_SHUTDOWN_MS),
    telemetry: readTelemetrySettings(env),
  };
}

function readTraceAllowances(env: NodeJS.ProcessEnv): GatewayEnvironment['traces'] {
  const allowed = readList(env, 'MICRODOLLAR_TRACE_ALLOW');
  if (allowed.some((name) => !['payer', 'upstream'].includes(name))) {
    throw invalid(
      'MICRODOLLAR_TRACE_ALLOW',
      'must be payer, upstream, or both with a comma between',
    );
  }
  return { payer: allowed.includes('payer'), upstream: allowed.includes('upstream') };
}

function readPooler(env: NodeJS.ProcessEnv): 'transaction' | null {
  const value = read(env, 'MICRODOLLAR_POOLER');
  if (value === null || value === 'transaction') return value;
  throw invalid('MICRODOLLAR_POOLER', 'must be transaction, or not set');
}

function readSchema(env: NodeJS.ProcessEnv): string | null {
  const value = read(env, 'MICRODOLLAR_SCHEMA');
  try {
    return value === null ? null : validateSchema(value);
  } catch (error) {
    throw invalid('MICRODOLLAR_SCHEMA', (error as Error).message.replace(/^schema /, ''));
  }
}

/** What is said of one database in place of a shards file. */
const OF_ONE_DATABASE = [
  'DATABASE_URL',
  'DATABASE_REPLICA_URL',
  'MICRODOLLAR_MIGRATION_URL',
  'MICRODOLLAR_SCHEMA',
];

function readShards(env: NodeJS.ProcessEnv): ShardOptions[] | null {
  const file = read(env, 'MICRODOLLAR_SHARDS_FILE');
  if (file === null) return null;
  const other = OF_ONE_DATABASE.find((name) => read(env, name) !== null);
  if (other !== undefined) {
    throw invalid(
      other,
      'and MICRODOLLAR_SHARDS_FILE exclude each other: the file names databases',
    );
  }
  try {
    return readShardsFile(file);
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
    const { code, message, details } = error;
    throw new LedgerError(code, `MICRODOLLAR_SHARDS_FILE: ${message}`, { details, cause: error });
  }
}

function readList(env: NodeJS.ProcessEnv, name: string): string[] {
  const values = (read(env, name) ?? '').split(',').map((value) => value.trim());
  return values.filter((value) => value !== '');
}

/** @throws LedgerError `invalid_request` for what is neither an address nor a range */
function readProxies(env: NodeJS.ProcessEnv): string[] {
  const proxies = readList(env, 'MICRODOLLAR_TRUSTED_PROXIES');
  createClientAddressReader(proxies);
  return proxies;
}

function readTiers(env: NodeJS.ProcessEnv): number[] {
  const tiers = readList(env, 'MICRODOLLAR_TIERS').map((text) =>
    /^\d{1,7}(\.\d{1,2})?$/.test(text) ? Number(text) : 0,
  );
  if (tiers.length > MAX_TIERS || tiers.some((tier) => tier <= 0)) {
    throw invalid('MICRODOLLAR_TIERS', `must be up to ${MAX_TIERS} amounts in USD like 19,49,199`);
  }
  return [...new Set(tiers)].sort((a, b) => a - b);
}

function readCount(env: NodeJS.ProcessEnv, name: string, otherwise: number, max: number): number {
  const value = read(env, name);
  if (value === null) return otherwise;
  const count = /^\d{1,9}$/.test(value) ? Number(value) : 0;
  if (count < 1 || count > max) throw invalid(name, `must be a whole number from 1 to ${max}`);
  return count;
}

function readOnAbort(env: NodeJS.ProcessEnv): 'stop' | 'drain' | null {
  const value = read(env, 'MICRODOLLAR_ON_ABORT');
  if (value === null || value === 'stop' || value === 'drain') return value;
  throw invalid('MICRODOLLAR_ON_ABORT', 'must be stop or drain');
}

/** Not set is the first. */
function readOneOf<const Value extends string>(
  env: NodeJS.ProcessEnv,
  name: string,
  values: readonly [Value, ...Value[]],
): Value {
  const value = read(env, name) ?? values[0];
  const known = values.find((each) => each === value);
  if (known === undefined) throw invalid(name, `must be one of ${values.join(', ')}`);
  return known;
}

/** As browsers send it: scheme, host and port, nothing after them. */
function readOrigin(value: string): string {
  if (value === '*') return value;
  if (URL.canParse(value) && /^https?:\/\/[^/]+\/?$/.test(value)) return new URL(value).origin;
  throw invalid('MICRODOLLAR_CORS_ORIGINS', 'must be origins like https://app.example.com, or *');
}

function readUpstream(env: NodeJS.ProcessEnv, prefix: string): { url?: string; key?: string } {
  const url = read(env, `${prefix}_URL`);
  const key = readKey(env, `${prefix}_KEY`);
  if (url !== null && !(URL.canParse(url) && /^https?:$/.test(new URL(url).protocol))) {
    throw invalid(`${prefix}_URL`, 'must be an http or https URL like https://api.example.com');
  }
  return { ...(url === null ? {} : { url }), ...(key === null ? {} : { key }) };
}

export function adminKeyPath(dataDir: string): string {
  return join(dataDir, 'admin-key');
}

/**
 * Empty is the same as not set.
 * @throws LedgerError `invalid_request` for `${NAME:-}`: a key that everybody knows, for one
 */
function read(env: NodeJS.ProcessEnv, name: string): string | null {
  const value = env[name];
  const [, named] = /^\$\{(\w+)(?::?[-?+].*)?\}$/.exec(value ?? '') ?? [];
  if (named !== undefined) {
    // What stands behind the name may be a key.
    const text = `\${${named}}`;
    throw invalid(name, `is a text like ${text}: what started this did not put its value in`);
  }
  return value === undefined || value === '' ? null : value;
}

/** What a header cannot carry would be refused with each request: the line end of a file, for one. */
function readKey(env: NodeJS.ProcessEnv, name: string): string | null {
  const key = read(env, name);
  if (key !== null && !isKeyOfHeader(key)) throw invalid(name, NO_KEY_OF_HEADER);
  return key;
}

function readUrl(env: NodeJS.ProcessEnv, name: string): string | null {
  const value = read(env, name);
  if (value !== null && !/^postgres(ql)?:\/\//.test(value)) {
    throw invalid(name, 'must be a URL like postgres://user:password@host:5432/database');
  }
  return value;
}

function readPort(value: string | null): number {
  if (value === null) return 8787;
  if (!/^\d{1,5}$/.test(value) || Number(value) > 65_535) {
    throw invalid('PORT', 'must be a port number, 0 to 65535');
  }
  return Number(value);
}

function readLogLevel(value: string | null): LogLevel {
  if (value === null) return 'info';
  const level = LOG_LEVELS.find((known) => known === value.toLowerCase());
  if (level === undefined) throw invalid('LOG_LEVEL', `must be one of ${LOG_LEVELS.join(', ')}`);
  return level;
}

function invalid(name: string, problem: string): LedgerError {
  return new LedgerError('invalid_request', `${name} ${problem}`, { details: { field: name } });
}
