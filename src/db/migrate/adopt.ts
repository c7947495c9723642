import type pg from 'pg';
import { LedgerError } from '../../errors.js';
import {
  type Migration,
  readJournal,
  readTableNames,
  readWantedSchema,
  recordAllApplied,
} from './journal.js';
import { planAdoption } from './planAdoption.js';
import { settingsRow } from './planNewTable.js';
import { readShape } from './readShape.js';
import { notAdoptable, type RunOptions, runSteps } from './runSteps.js';
import type { AdoptionPlan, Step } from './step.js';
import { dropForeignKey, findWaitingForeignKeys } from './waitingForeignKeys.js';

/**
 * Whether the database has tables of the ledger's names, but not from the ledger's migrations:
 * another program's, or those of an adoption that was ended midway.
 */
export async function needsAdoption(
  client: pg.Client,
  unapplied: readonly Migration[],
): Promise<boolean> {
  if (unapplied.length < readJournal().length) return false;
  const result = await client.query(
    `select exists (
      select from pg_class
      where relnamespace = 'public'::regnamespace
        and relkind in ('r', 'p', 'v', 'm', 'f')
        and relname = any($1::text[])
    ) as found`,
    [readTableNames()],
  );
  return result.rows[0].found;
}

/** What adopting would do. Reads the catalog only; changes nothing and locks nothing. */
export async function planAdoptionOf(
  client: pg.Client,
  options: { dropForeignKeys: boolean },
): Promise<AdoptionPlan> {
  const plan = planAdoption(await readShape(client), readWantedSchema());
  const dropped = options.dropForeignKeys
    ? (await findWaitingForeignKeys(client)).map(dropForeignKey)
    : [];
  return { ...plan, steps: [...plan.steps, ...dropped, FINISH] };
}

const FINISH: Step = {
  kind: 'finish',
  subject: 'note the migrations as applied',
  tables: [],
  lock: 'none',
  duration: 'quick',
  statements: [settingsRow(true)],
  work: recordAllApplied,
};

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
  options.log(`adopting this database in ${plan.steps.length} steps`);
  const total = plan.steps.length;
  await runSteps(client, plan.steps.slice(0, -1), options, { first: 0, total });
  // Proven by the catalog, not by having run: someone else may have changed it meanwhile.
  const left = await planAdoptionOf(client, options);
  const steps = left.steps.filter((step) => step !== FINISH);
  if (left.problems.length + steps.length > 0) {
    const what = [...left.problems, ...steps.map((step) => `${step.kind} ${step.subject}`)];
    throw new LedgerError(
      'unavailable',
      'the schema changed while it was adopted; run `microdollar migrate` again for: ' +
        what.join('; '),
      { details: { left: what } },
    );
  }
  await runSteps(client, [FINISH], options, { first: total - 1, total });
  return { warnings: plan.warnings };
}
