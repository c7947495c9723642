/**
 * Plants one defect after the other in a copy of the sources and runs the tests that must see it:
 *
 *   npm run test:mutants -- [--only <part of a name>] [--from <name>] [--baseline] [--tests <file>]
 *
 * One line a mutant: caught, and by which test; or survived. `--from` begins there; `--baseline` runs the named tests on
 * the sources as they are; `--tests` runs one file in place of those named. Exit status 1 when one
 * survived that is not known to change nothing.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { MUTANTS } from './mutants/all.js';
import type { Mutant } from './mutants/mutant.js';

const ROOT = resolve(import.meta.dirname, '..');
const COPIED = ['src', 'test', 'drizzle', 'scripts', 'package.json', 'tsconfig.json'];
/** A mutant under which a test waits for ever is caught as well. */
const TEST_TIMEOUT_MS = 60_000;
const RUN_TIMEOUT_MS = 240_000;

/** The part of Vitest's JSON report that is read here. */
interface Report {
  numPassedTests: number;
  testResults: { assertionResults: { fullName: string; status: string }[] }[];
}

type Verdict = { outcome: 'caught' | 'survived' | 'broken'; by: string };

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    from: { type: 'string' },
    baseline: { type: 'boolean' },
    tests: { type: 'string' },
  },
});
const copy = await mkdtemp(join(tmpdir(), 'microdollar-mutants-'));
try {
  for (const path of [...COPIED, 'vitest.config.ts']) {
    await cp(join(ROOT, path), join(copy, path), { recursive: true });
  }
  await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  await mkdir(join(copy, '.mutants'));
  process.exitCode = values.baseline ? await runBaseline() : await runMutants();
} finally {
  await rm(copy, { recursive: true, force: true });
}

async function runMutants(): Promise<number> {
  const first = MUTANTS.findIndex(({ name }) => name === values.from);
  if (values.from !== undefined && first < 0) throw new Error(`no mutant ${values.from}`);
  const rest = MUTANTS.slice(Math.max(0, first));
  const chosen = rest.filter(({ name }) => name.includes(values.only));
  const counts = { caught: 0, survived: 0, broken: 0, equivalent: 0 };
  for (const mutant of chosen) {
    const { outcome, by } = await tryMutant(mutant);
    const isKnown = outcome === 'survived' && mutant.changesNothing !== undefined;
    counts[isKnown ? 'equivalent' : outcome]++;
    const told = isKnown ? `changes nothing: ${mutant.changesNothing}` : by;
    console.log(`${isKnown ? 'equivalent' : outcome}  ${mutant.name}${told ? `  [${told}]` : ''}`);
  }
  console.log(JSON.stringify({ mutants: chosen.length, ...counts }));
  return counts.survived + counts.broken === 0 ? 0 : 1;
}

async function tryMutant(mutant: Mutant): Promise<Verdict> {
  const path = join(copy, mutant.file);
  const source = await readFile(path, 'utf8');
  const parts = source.split(mutant.search);
  if (parts.length !== 2) {
    return { outcome: 'broken', by: `found ${parts.length - 1} times in ${mutant.file}` };
  }
  await writeFile(path, parts.join(mutant.replace));
  try {
    return await runTests(values.tests === undefined ? mutant.tests : [values.tests]);
  } finally {
    await writeFile(path, source);
  }
}

async function runBaseline(): Promise<number> {
  const tests = [...new Set(MUTANTS.flatMap((mutant) => mutant.tests))].sort();
  let failed = 0;
  for (const test of tests) {
    const { outcome, by } = await runTests([test]);
    if (outcome !== 'survived') failed++;
    console.log(`${outcome === 'survived' ? 'green' : outcome}  ${test}  ${by}`);
  }
  return failed === 0 ? 0 : 1;
}

/** `survived`: every test passed. */
async function runTests(tests: readonly string[]): Promise<Verdict> {
  const file = join(copy, '.mutants', 'report.json');
  await rm(file, { force: true });
  const vitest = join(copy, 'node_modules/vitest/vitest.mjs');
  const options = ['--bail=1', `--testTimeout=${TEST_TIMEOUT_MS}`, '--reporter=json'];
  const files = tests.map((test) => `test/${test}.test.ts`);
  const child = spawn(
    process.execPath,
    [vitest, 'run', ...options, `--outputFile=${file}`, ...files],
    { cwd: copy, stdio: 'ignore', detached: true, env: { ...process.env, FAULT_SEED: '1' } },
  );
  const status = await statusOf(child);
  // A test that waits for ever is ended by its own limit: here the machine was too busy to tell.
  if (status === null) return { outcome: 'broken', by: `${tests.join(', ')}: not ended in time` };
  const report = await readFile(file, 'utf8').catch(() => null);
  if (report === null) return { outcome: 'broken', by: 'no report' };
  const { testResults, numPassedTests } = JSON.parse(report) as Report;
  const all = testResults.flatMap(({ assertionResults }) => assertionResults);
  const failed = all.find((test) => test.status === 'failed');
  if (failed !== undefined) return { outcome: 'caught', by: failed.fullName };
  if (status !== 0) return { outcome: 'broken', by: 'failed outside of a test' };
  return numPassedTests > 0
    ? { outcome: 'survived', by: '' }
    : { outcome: 'broken', by: `no test in ${files.map((each) => basename(dirname(each)))}` };
}

/** Null: it took too long and was ended, with all that it had started. */
async function statusOf(child: ChildProcess): Promise<number | null> {
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  }, RUN_TIMEOUT_MS);
  const [status] = await once(child, 'exit');
  clearTimeout(timer);
  return isLate ? null : status;
}
