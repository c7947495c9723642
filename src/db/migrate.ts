import { setTimeout as sleep } from 'node:timers/promises';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate as runMigrations } from 'drizzle-orm/node-postgres/migrator';
import type pg from 'pg';
import { LedgerError } from '../errors.js';
import { adopt, needsAdoption, planAdoptionOf } from './migrate/adopt.js';
import {
  CONTENDED,
  connectToMigrate,
  explainFailure,
  rootOf,
  underLock,
} from './migrate/connection.js';
import { repairForeignXids } from './migrate/foreignXids.js';
import {
  findUnapplied,
  MIGRATIONS_SCHEMA,
  MIGRATIONS_TABLE,
  type Migration,
  migrationsFolder,
  type Queryable,
  readMigrationSql,
} from './migrate/journal.js';
import { type RunOptions, runSteps, type StepProgress } from './migrate/runSteps.js';
import type { AdoptionPlan, Step } from './migrate/step.js';
import {
  dropForeignKey,
  findWaitingForeignKeys,
  warnOfForeignKeys,
} from './migrate/waitingForeignKeys.js';
import { sqlStateOf } from './sqlstate.js';

export { assertMigrated } from './migrate/journal.js';
export type { StepProgress } from './migrate/runSteps.js';
export type { Step } from './migrate/step.js';

export interface MigrateOptions {
  /**
   * For one DDL lock; what waits behind the DDL waits no longer than this. Default 5,000 ms; while
   * adopting 500 ms, which is below the server's deadlock timeout: rather us than a writer.
   */
  lockTimeoutMs?: number;
  /** For another process that is migrating. Default 600,000 ms. */
  waitTimeoutMs?: number;
  /** Tries after a lock timeout or deadlock. Default 10; while adopting 30 for each step. */
  attempts?: number;
  /** Adopt a database that has tables of its own. Default true; false: refuse with the remedy. */
  adopt?: boolean;
  /** Drop foreign keys that make usage writes wait. Default false: warn of them. */
  dropForeignKeys?: boolean;
  log?: (message: string) => void;
  /** Before each step of an adoption, awaited; and twice a second while an index is built. */
  onStep?: (progress: StepProgress) => void | Promise<void>;
}

export interface MigrateResult {
  /** Names of the migrations that this call applied. */
  applied: string[];
  /** Beside tables that were there before. */
  isAdopted: boolean;
  /** What the owner should know, each with its remedy. */
  warnings: string[];
}

/** What `migrate` would do now. */
export interface MigrationPlan extends AdoptionPlan {
  /** Names of the migrations that are not applied yet. */
  unapplied: string[];
  isAdoption: boolean;
}

const ADOPTION_LOCK_TIMEOUT_MS = 500;
const ADOPTION_ATTEMPTS = 30;

/**
 * Brings the schema up to date. Migrations in /drizzle that are not applied yet are applied in one
 * transaction; a database that has tables of its own is adopted online instead, step by step
 * (docs/adr/0005-adopt-online.md). Any number of processes may call it at once: one works, the
 * others wait and find nothing to do. With nothing to apply it takes no lock and needs no right
 * but to read. Ended anywhere, it can be called again.
 *
 * @throws LedgerError `unavailable` (unreachable, standby, locks held too long, adoption refused)
 *   or `internal` (server too old, role not permitted, a schema or data that cannot be adopted)
 */
export async function migrate(url: string, options: MigrateOptions = {}): Promise<MigrateResult> {
  const { log = () => {}, waitTimeoutMs = 600_000, dropForeignKeys = false } = options;
  const client = await connectToMigrate(url, options.lockTimeoutMs ?? 5_000);
  try {
    let result: Pick<MigrateResult, 'applied' | 'isAdopted'> = { applied: [], isAdopted: false };
    const warnings: string[] = [];
    if ((await findUnapplied(client)).length > 0) {
      result = await underLock(client, { waitTimeoutMs, log }, async () => {
        // Under the lock: whoever had it before may have done the work.
        const unapplied = await findUnapplied(client);
        if (unapplied.length === 0) return { applied: [], isAdopted: false };
        const isAdoption = await needsAdoption(client, unapplied);
        if (isAdoption) warnings.push(...(await runAdoption(client, url, options)).warnings);
        else await applyMigrations(client, unapplied, options);
        const applied = unapplied.map((migration) => migration.name);
        log(`applied ${applied.join(', ')}`);
        return { applied, isAdopted: isAdoption };
      });
    }
    await repairForeignXids(client, log);
    if (dropForeignKeys) {
      await underLock(client, { waitTimeoutMs, log }, () => dropWaiting(client, url, options));
    }
    const left = await findWaitingForeignKeys(client);
    return { ...result, warnings: [...warnings, ...warnOfForeignKeys(left)] };
  } catch (error) {
    throw explainFailure(error);
  } finally {
    await client.end().catch(() => {});
  }
}

/** What `migrate` would do, from the catalog alone: changes nothing, locks nothing. */
export async function planMigration(
  url: string,
  options: { dropForeignKeys?: boolean } = {},
): Promise<MigrationPlan> {
  const client = await connectToMigrate(url, ADOPTION_LOCK_TIMEOUT_MS);
  const { dropForeignKeys = false } = options;
  try {
    const unapplied = await findUnapplied(client);
    const isAdoption = unapplied.length > 0 && (await needsAdoption(client, unapplied));
    const keys = await findWaitingForeignKeys(client);
    const plan = isAdoption
      ? await planAdoptionOf(client, { dropForeignKeys })
      : {
          steps: [
            ...unapplied.map(migrationStep),
            ...(dropForeignKeys ? keys.map(dropForeignKey) : []),
          ],
          problems: [],
          warnings: [],
        };
    return {
      ...plan,
      warnings: [...plan.warnings, ...(dropForeignKeys ? [] : warnOfForeignKeys(keys))],
      unapplied: unapplied.map((migration) => migration.name),
      isAdoption,
    };
  } catch (error) {
    throw explainFailure(error);
  } finally {
    await client.end().catch(() => {});
  }
}

/** Foreign keys that make usage writes wait (I4), in words; for `status`. */
export async function findForeignKeyWarnings(database: Queryable): Promise<string[]> {
  return warnOfForeignKeys(await findWaitingForeignKeys(database));
}

function migrationStep(migration: Migration): Step {
  return {
    kind: 'apply_migration',
    subject: migration.name,
    tables: [],
    lock: 'ACCESS EXCLUSIVE',
    duration: 'quick',
    statements: readMigrationSql(migration.name),
  };
}

function runOptions(url: string, options: MigrateOptions): RunOptions {
  const given = options.lockTimeoutMs ?? ADOPTION_LOCK_TIMEOUT_MS;
  return {
    url,
    lockTimeoutMs: given,
    attempts: options.attempts ?? ADOPTION_ATTEMPTS,
    log: options.log ?? (() => {}),
    onStep: options.onStep ?? (() => {}),
  };
}

async function runAdoption(
  client: pg.Client,
  url: string,
  options: MigrateOptions,
): Promise<{ warnings: string[] }> {
  if (options.adopt === false) {
    throw new LedgerError(
      'unavailable',
      'this database has tables of its own, and is not adopted yet: look at ' +
        '`microdollar migrate --dry-run`, then run `microdollar migrate`',
    );
  }
  const run = runOptions(url, options);
  await client.query(`set lock_timeout = ${run.lockTimeoutMs}`);
  return adopt(client, { ...run, dropForeignKeys: options.dropForeignKeys ?? false });
}

async function dropWaiting(client: pg.Client, url: string, options: MigrateOptions): Promise<void> {
  const run = runOptions(url, options);
  await client.query(`set lock_timeout = ${run.lockTimeoutMs}`);
  await runSteps(client, (await findWaitingForeignKeys(client)).map(dropForeignKey), run);
}

/** All in one transaction: all or nothing. */
async function applyMigrations(
  client: pg.Client,
  unapplied: readonly Migration[],
  options: MigrateOptions,
): Promise<void> {
  const attempts = options.attempts ?? 10;
  for (let attempt = 1; ; attempt++) {
    try {
      await runMigrations(drizzle(client), {
        migrationsFolder: migrationsFolder(),
        migrationsTable: MIGRATIONS_TABLE,
        migrationsSchema: MIGRATIONS_SCHEMA,
      });
      return;
    } catch (error) {
      if (!CONTENDED.has(sqlStateOf(rootOf(error)) ?? '') || attempt >= attempts) throw error;
      options.log?.(
        `a table is in use (attempt ${attempt} of ${attempts}); trying again to apply ` +
          unapplied.map((migration) => migration.name).join(', '),
      );
      await sleep(Math.min(200 * attempt, 2_000));
    }
  }
}
