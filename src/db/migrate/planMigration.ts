import type pg from 'pg';
import { refuseOnCitus } from '../citus/placedUrl.js';
import { inSchema } from '../ledgerSchema.js';
import { findOnlineWork, type OnlineWork, planAdoptionOf } from './adopt.js';
import { connectToMigrate, explainFailure } from './connection.js';
import { estimateSteps, type StepEstimate } from './estimate.js';
import { countsForeignRows, DOUBLE_COUNT_WARNING, planForeignRows } from './foreignRows.js';
import { planGeneration } from './generation.js';
import { assertUsable, findUnapplied, type Migration, readMigrationSql } from './journal.js';
import { planPartitions } from './partitions/planPartitions.js';
import { forSchema, readSchemaPlace, type SchemaPlace } from './schemaPlace.js';
import type { AdoptionPlan, Step } from './step.js';
import { dropForeignKey, findWaitingForeignKeys, warnOfForeignKeys } from './waitingForeignKeys.js';

const LOCK_TIMEOUT_MS = 500;

/** What `migrate` would do now. */
export interface MigrationPlan extends AdoptionPlan {
  /** Names of the migrations that are not applied yet. */
  unapplied: string[];
  /** How they would be, where not as they are in one transaction: online, step by step. */
  work: OnlineWork | null;
  /** Whether usage rows that other programs insert are counted at once, today. */
  countsForeignRows: boolean;
  /** For each step; null for those that are quick. */
  estimates: (StepEstimate | null)[];
}

export interface PlanOptions {
  /** As for `migrate`. */
  schema?: string | undefined;
  dropForeignKeys?: boolean | undefined;
  countForeignRows?: boolean | undefined;
  partitionById?: boolean | undefined;
}

const PARTITIONED_LATER =
  'whether this ledger can be partitioned by its ids is looked at once the schema is up to date';

/** What `migrate` would do, from the catalog and the settings: changes nothing, locks nothing. */
export async function planMigration(
  url: string,
  options: PlanOptions = {},
): Promise<MigrationPlan> {
  refuseOnCitus(url, 'plan', 'migrate makes it whole, or changes nothing');
  const client = await connectToMigrate(inSchema(url, options.schema), LOCK_TIMEOUT_MS);
  try {
    await assertUsable(client);
    const unapplied = await findUnapplied(client);
    const work = unapplied.length === 0 ? null : await findOnlineWork(client, unapplied);
    const upgrade = await planUpgrade(client, unapplied, work, options);
    const keys = await findWaitingForeignKeys(client);
    const counts = await countsForeignRows(client);
    const choice = options.countForeignRows;
    const isAsked = options.partitionById ?? false;
    // Before the schema is up to date there is nothing to read of partitions.
    const partitions =
      unapplied.length === 0
        ? await planPartitions(client, isAsked)
        : { steps: [], problems: [], warnings: isAsked ? [PARTITIONED_LATER] : [] };
    const steps = [
      ...upgrade.steps,
      // Before the schema is up to date there is nothing to read of a generation.
      ...(unapplied.length === 0 ? await planGeneration(client) : []),
      ...(options.dropForeignKeys && work === null ? keys.map(dropForeignKey) : []),
      ...(choice === undefined ? [] : await planForeignRows(client, choice)),
      ...partitions.steps,
    ];
    return {
      unapplied: unapplied.map((migration) => migration.name),
      work,
      countsForeignRows: counts,
      steps,
      estimates: await estimateSteps(client, steps),
      problems: [...upgrade.problems, ...partitions.problems],
      warnings: [
        ...upgrade.warnings,
        ...(options.dropForeignKeys ? [] : warnOfForeignKeys(keys)),
        ...partitions.warnings,
        ...(choice ? [DOUBLE_COUNT_WARNING] : []),
      ],
    };
  } catch (error) {
    throw explainFailure(error);
  } finally {
    await client.end().catch(() => {});
  }
}

async function planUpgrade(
  client: pg.Client,
  unapplied: readonly Migration[],
  work: OnlineWork | null,
  { dropForeignKeys = false }: PlanOptions,
): Promise<AdoptionPlan> {
  if (work !== null) return planAdoptionOf(client, { dropForeignKeys });
  const place = await readSchemaPlace(client);
  const steps = unapplied.map((migration) => migrationStep(migration, place));
  return { steps: [...createSchema(place), ...steps], problems: [], warnings: [] };
}

function createSchema({ identifier, exists }: SchemaPlace): Step[] {
  if (exists) return [];
  return [
    {
      kind: 'create_schema',
      subject: identifier,
      tables: [],
      lock: 'none',
      duration: 'quick',
      statements: [`create schema ${identifier}`],
    },
  ];
}

function migrationStep(migration: Migration, place: SchemaPlace): Step {
  return {
    kind: 'apply_migration',
    subject: migration.name,
    tables: [],
    lock: 'ACCESS EXCLUSIVE',
    duration: 'quick',
    statements: readMigrationSql(migration.name).map((text) => forSchema(text, place)),
  };
}
