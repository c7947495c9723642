import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import {
  type Durability,
  type DurabilityOptions,
  openDurability,
} from '../../src/gateway/durable/index.js';
import type { Intent } from '../../src/gateway/durable/types.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import type { UsageEvent } from '../../src/record/types.js';

/** What a gateway process stands on: its ledger and its durability. */
export interface TestGateway extends Durability {
  ledger: Ledger;
  logLines: { level: string; details: object; message: string }[];
  /** Durability first, then the ledger. */
  stop(): Promise<void>;
}

/**
 * Quick to come back, and to notice a connection that is cut; a busy machine is not taken for a
 * database that is away. A lease that never ends unless a test says so.
 */
export async function openGateway(
  databaseUrl: string,
  dataDir: string,
  options: Partial<DurabilityOptions> = {},
): Promise<TestGateway> {
  const ledger = options.ledger ?? (await createLedger({ databaseUrl, poolSize: 4 }));
  const logLines: TestGateway['logLines'] = [];
  const line = (level: string) => (details: object, message: string) =>
    void logLines.push({ level, details, message });
  const durability = await openDurability({
    ledger,
    databaseUrl,
    dataDir,
    databaseTimeoutMs: 5_000,
    maintenanceIntervalMs: 100,
    leaseMs: 3_600_000,
    log: { info: line('info'), warn: line('warn'), error: line('error') },
    ...options,
  });
  let stopping: Promise<void> | null = null;
  return {
    ...durability,
    ledger,
    logLines,
    stop() {
      stopping ??= durability.close().then(() => ledger.close());
      return stopping;
    },
  };
}

export function makeDataDir(): { dataDir: string; remove(): void } {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'microdollar-gateway-'));
  return { dataDir, remove: () => rmSync(dataDir, { recursive: true, force: true }) };
}

export function newIntent(kiloUserId: string, more: Partial<Intent> = {}): Intent {
  return {
    id: uuidv7(),
    kilo_user_id: kiloUserId,
    organization_id: null,
    api_key_id: null,
    api_kind: 'openai_chat',
    requested_model: 'gpt-test',
    created_at: new Date().toISOString(),
    input_tokens_estimate: 100,
    max_tokens: 50,
    streamed: true,
    ...more,
  };
}

/** The usage of an intent, at 7 microdollars unless said otherwise. */
export function usageOf(intent: Intent, more: Partial<UsageEvent> = {}): UsageEvent {
  return {
    id: intent.id,
    kilo_user_id: intent.kilo_user_id,
    organization_id: intent.organization_id,
    cost: 7,
    input_tokens: 90,
    output_tokens: 10,
    requested_model: intent.requested_model,
    created_at: intent.created_at,
    ...more,
  };
}

export async function createUser(pool: pg.Pool, acquiredMicrodollars = 0): Promise<string> {
  const id = `user-${randomUUID()}`;
  await pool.query('insert into kilocode_users (id, total_microdollars_acquired) values ($1, $2)', [
    id,
    acquiredMicrodollars,
  ]);
  return id;
}

/** Looks until it is so; the test's own time limit ends it. */
export async function until(holds: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await holds())) await sleep(20);
}

export async function count(pool: pg.Pool, table: string, where = 'true'): Promise<number> {
  const { rows } = await pool.query(`select count(*)::int as n from ${table} where ${where}`);
  return rows[0].n;
}
