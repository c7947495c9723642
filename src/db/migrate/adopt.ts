import type pg from 'pg';
import { LedgerError } from '../../errors.js';
import { recordAllApplied } from './applyMigrations.js';
import { findViewsOn } from './dependentViews.js';
import {
  findOwnTables,
  isBreaking,
  type Migration,
  readJournal,
  readMigrationSql,
  readWantedSchema,
} from './journal.js';
import { planRetirement } from './pending/retire.js';
import { planAdoption } from './planAdoption.js';
import { settingsRow } from './planNewTable.js';
import { readShape } from './readShape.js';
import { notAdoptable, type RunOptions, runSteps } from './runSteps.js';
import { readSchemaPlace } from './schemaPlace.js';
import { type AdoptionPlan, quote, type Step } from './step.js';
import { dropForeignKey, findWaitingForeignKeys } from './waitingForeignKeys.js';

/**
 * What `migrate` does with a database that has tables of the ledger's names, but none of this
 * version's migrations: `adopt` another program's, or those of an adoption that was ended midway;
 * `upgrade` those of the versions before the log. Both add online what is missing.
 */
export type OnlineWork = 'adopt' | 'upgrade';

/** Null: the migrations can be applied as they are. */
export async function findOnlineWork(
  client: pg.Client,
  unapplied: readonly Migration[],
): Promise<OnlineWork | null> {
  if (unapplied.length < readJournal().length) return null;
  if (!(await findOwnTables(client))) return null;
  const result = await client.query<{ journal: boolean }>(
    `select to_regclass('microdollar_migrations') is not null as journal`,
  );
  if (!result.rows[0]?.journal) return 'adopt';
  const applied = await client.query('select from microdollar_migrations limit 1');
  return applied.rowCount === 0 ? 'adopt' : 'upgrade';
}

/** What that would do. Reads the catalog only; changes nothing and locks nothing. */
export async function planAdoptionOf(
  client: pg.Client,
  options: { dropForeignKeys: boolean },
): Promise<AdoptionPlan> {
  const found = await readShape(client);
  const wanted = readWantedSchema(await readSchemaPlace(client));
  const { hasPending, steps } = planRetirement(found, wanted);
  // Views on pending rows are made anew with the cutover.
  const plan = planAdoption(found, hasPending ? { ...wanted, views: [] } : wanted);
  const dropped = options.dropForeignKeys
    ? (await findWaitingForeignKeys(client)).map(dropForeignKey)
    : [];
  const inTheWay = hasPending ? await findViewsOn(client, wanted.views) : [];
  return {
    steps: [...plan.steps, ...steps, ...dropped, ANALYZE(wanted.tables), FINISH],
    problems: [...plan.problems, ...inTheWay],
    warnings: plan.warnings,
  };
}

/** Statistics of what was added: the index of unsettled rows is on an expression. */
const ANALYZE = (tables: readonly { name: string }[]): Step => ({
  kind: 'analyze',
  subject: 'the tables of the ledger',
  tables: tables.map((table) => table.name),
  lock: 'SHARE UPDATE EXCLUSIVE',
  duration: 'long',
  isConcurrent: true,
  statements: tables.map((table) => `analyze ${quote(table.name)}`),
});

const FINISH: Step = {
  kind: 'finish',
  subject: 'note the migrations as applied',
  tables: [],
  lock: 'none',
  duration: 'quick',
  statements: [settingsRow(true)],
  work: async (client) => {
    await client.query('update ledger_settings set breaking_migrations = $1 where id = 1', [
      readJournal()
        .map((migration) => migration.name)
        .filter((name) => isBreaking(name, readMigrationSql(name))),
    ]);
    await recordAllApplied(client);
    return 'done';
  },
};

/** Steps that every run ends with, whatever it found. */
const ALWAYS: ReadonlySet<Step['kind']> = new Set(['analyze', 'finish']);

/**
 * Adds online what the ledger needs beside what is there (docs/adr/0005-adopt-online.md). Under
 * the migrating session's lock.
 * @throws LedgerError `internal` with everything that is in the way; then nothing was changed
 */
export async function adopt(
  client: pg.Client,
  options: RunOptions & { dropForeignKeys: boolean },
): Promise<{ warnings: string[] }> {
  const plan = await planAdoptionOf(client, options);
  if (plan.problems.length > 0) throw notAdoptable(plan.problems);
  options.log(`changing this database online, in ${plan.steps.length} steps`);
  const total = plan.steps.length;
  const last = plan.steps.filter((step) => ALWAYS.has(step.kind));
  const first = plan.steps.slice(0, -last.length);
  await runSteps(client, first, options, { first: 0, total });
  // Proven by the catalog, not by having run: someone else may have changed it meanwhile.
  const left = await planAdoptionOf(client, options);
  const steps = left.steps.filter((step) => !ALWAYS.has(step.kind));
  if (left.problems.length + steps.length > 0) {
    const what = [...left.problems, ...steps.map((step) => `${step.kind} ${step.subject}`)];
    throw new LedgerError(
      'unavailable',
      'the schema changed while it was adopted; run `microdollar migrate` again for: ' +
        what.join('; '),
      { details: { left: what } },
    );
  }
  await runSteps(client, last, options, { first: first.length, total });
  return { warnings: plan.warnings };
}
