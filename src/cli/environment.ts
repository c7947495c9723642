import { join } from 'node:path';
import { LedgerError } from '../errors.js';

/** The contract's environment, read once per command. */
export interface Environment {
  databaseUrl: string | null;
  migrationUrl: string | null;
  replicaUrl: string | null;
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
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** @throws LedgerError `invalid_request` naming the variable, never its value */
export function readEnvironment(env: NodeJS.ProcessEnv): Environment {
  return {
    databaseUrl: readUrl(env, 'DATABASE_URL'),
    migrationUrl: readUrl(env, 'MICRODOLLAR_MIGRATION_URL'),
    replicaUrl: readUrl(env, 'DATABASE_REPLICA_URL'),
    dataDir: read(env, 'MICRODOLLAR_DATA_DIR') ?? '.microdollar',
    host: read(env, 'HOST') ?? '127.0.0.1',
    port: readPort(read(env, 'PORT')),
    adminKey: read(env, 'MICRODOLLAR_ADMIN_KEY'),
    logLevel: readLogLevel(read(env, 'LOG_LEVEL')),
    upstreams: {
      openai: readUpstream(env, 'MICRODOLLAR_OPENAI'),
      anthropic: readUpstream(env, 'MICRODOLLAR_ANTHROPIC'),
    },
    pricesFile: read(env, 'MICRODOLLAR_PRICES_FILE'),
    trustedProxies: (read(env, 'MICRODOLLAR_TRUSTED_PROXIES') ?? '')
      .split(',')
      .map((address) => address.trim())
      .filter((address) => address !== ''),
  };
}

function readUpstream(env: NodeJS.ProcessEnv, prefix: string): { url?: string; key?: string } {
  const url = read(env, `${prefix}_URL`);
  const key = read(env, `${prefix}_KEY`);
  if (url !== null && !(URL.canParse(url) && /^https?:$/.test(new URL(url).protocol))) {
    throw invalid(`${prefix}_URL`, 'must be an http or https URL like https://api.example.com');
  }
  return { ...(url === null ? {} : { url }), ...(key === null ? {} : { key }) };
}

export function adminKeyPath(dataDir: string): string {
  return join(dataDir, 'admin-key');
}

/** Empty is the same as not set. */
function read(env: NodeJS.ProcessEnv, name: string): string | null {
  const value = env[name];
  return value === undefined || value === '' ? null : value;
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
