import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { LedgerError } from '../../errors.js';
import { isLockConflict, isUniqueViolation, sqlStateOf } from '../sqlstate.js';
import { type Blocker, describeBlocker, findBlocker } from './blockers.js';
import type { Step } from './step.js';
import { watchIndexBuild } from './watchIndexBuild.js';

export interface StepProgress {
  step: Step;
  /** 0-based. */
  index: number;
  total: number;
  /** Of an index build, as the server calls it. */
  phase?: string;
  /** Of the phase: blocks or tuples. */
  done?: number;
  expected?: number;
  /** Who the build waits for: it lets older transactions end first. */
  waitsForPid?: number;
}

export interface RunOptions {
  url: string;
  lockTimeoutMs: number;
  attempts: number;
  log: (message: string) => void;
  /** Before each step, awaited; and while a long one runs. */
  onStep: (progress: StepProgress) => void | Promise<void>;
}

const FIRST_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 5_000;

/**
 * Runs steps in order, each a transaction of its own: one that was ended anywhere leaves whole
 * steps, and a new plan from the catalog has what is left.
 * @throws LedgerError `unavailable` naming the session that holds a lock for too long, `internal`
 *   for data that cannot be adopted
 */
export async function runSteps(
  client: pg.Client,
  steps: readonly Step[],
  options: RunOptions,
  place = { first: 0, total: steps.length },
): Promise<void> {
  for (const [index, step] of steps.entries()) {
    const progress = { step, index: place.first + index, total: place.total };
    await options.onStep(progress);
    if (step.kind === 'check') await runCheck(client, step);
    else await runPatiently(client, step, progress, options);
  }
}

async function runCheck(client: pg.Client, step: Step): Promise<void> {
  const result = await client.query<{ count: string }>(step.statements[0] ?? '');
  const count = result.rows[0]?.count ?? '0';
  if (count !== '0') throw notAdoptable([step.problem?.(count) ?? step.subject]);
}

export function notAdoptable(problems: readonly string[]): LedgerError {
  return new LedgerError(
    'internal',
    ['this database cannot be adopted as it is; nothing was changed:', ...problems].join('\n- '),
    { details: { problems } },
  );
}

async function runPatiently(
  client: pg.Client,
  step: Step,
  progress: StepProgress,
  options: RunOptions,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      if (step.isConcurrent) await runConcurrently(client, step, progress, options);
      else while ((await runInTransaction(client, step)) === 'again') attempt = 1;
      return;
    } catch (error) {
      if (!step.isConcurrent) await client.query('rollback').catch(() => {});
      if (isUniqueViolation(error)) throw duplicatesCame(step, error);
      if (!isLockConflict(error)) throw error;
      const blocker = await findBlocker(client, step.tables, step.lock);
      if (attempt >= options.attempts) throw gaveUp(step, blocker, attempt, error);
      const who = blocker === null ? 'in use' : `held by ${describeBlocker(blocker)}`;
      options.log(
        `${step.tables.join(', ')}: ${who}; attempt ${attempt} of ${options.attempts} gave way, ` +
          'trying again',
      );
      // Writers that queued behind the attempt go first; full jitter, so as not to fall into step.
      const ceilingMs = Math.min(FIRST_BACKOFF_MS * 2 ** attempt, MAX_BACKOFF_MS);
      await sleep(FIRST_BACKOFF_MS + Math.random() * ceilingMs);
    }
  }
}

async function runInTransaction(client: pg.Client, step: Step): Promise<'done' | 'again'> {
  await client.query('begin');
  for (const statement of step.statements) await client.query(statement);
  const outcome = await step.work?.(client);
  await client.query('commit');
  return outcome ?? 'done';
}

/**
 * Concurrent statements wait for older transactions to end, however long: nobody waits behind
 * them meanwhile, so they have no lock timeout.
 */
async function runConcurrently(
  client: pg.Client,
  step: Step,
  progress: StepProgress,
  options: RunOptions,
): Promise<void> {
  const watch = step.kind === 'create_index' ? watchIndexBuild(client, progress, options) : null;
  await client.query(`set lock_timeout = 0`);
  try {
    for (const statement of step.statements) await client.query(statement);
  } finally {
    await watch?.stop();
    await client.query(`set lock_timeout = ${options.lockTimeoutMs}`).catch(() => {});
  }
}

/** Between the check and the build. The INVALID index is dropped by the next plan. */
function duplicatesCame(step: Step, cause: unknown): LedgerError {
  return new LedgerError(
    'internal',
    `duplicates came while ${step.subject} was built; run \`microdollar migrate\` again: it ` +
      'counts them and starts this index anew',
    { details: { sqlstate: sqlStateOf(cause) }, cause },
  );
}

function gaveUp(
  step: Step,
  blocker: Blocker | null,
  attempts: number,
  cause: unknown,
): LedgerError {
  const who = blocker === null ? 'others, in turn' : describeBlocker(blocker);
  return new LedgerError(
    'unavailable',
    `migrating gave up after ${attempts} attempts: ${step.tables.join(', ')} is held by ${who}. ` +
      'Nothing is broken: end that transaction and run `microdollar migrate` again',
    { details: { sqlstate: sqlStateOf(cause), tables: step.tables, blocker }, cause },
  );
}
