/**
 * Runs the tests again and again, to find those that fail now and then:
 *
 *   npm run test:repeat -- [--times 10] [--busy 0] [<files>...]
 *
 * `--busy`: processes beside them that do nothing but use a processor each. One line a run, and the
 * failed tests by name. Exit status 1 when any failed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const VITEST = resolve(import.meta.dirname, '../node_modules/vitest/vitest.mjs');
/** Should this process be killed, they end by themselves. */
const BUSY = 'const until = Date.now() + 4 * 3_600_000; while (Date.now() < until);';

/** The part of Vitest's JSON report that is read here. */
interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { fullName: string; status: string }[];
  }[];
}

const { values, positionals } = parseArgs({
  options: { times: { type: 'string', default: '10' }, busy: { type: 'string', default: '0' } },
  allowPositionals: true,
});
const directory = await mkdtemp(join(tmpdir(), 'microdollar-repeat-'));
const busy = Array.from({ length: Number(values.busy) }, () =>
  spawn(process.execPath, ['-e', BUSY], { stdio: 'ignore' }),
);
try {
  for (let run = 1; run <= Number(values.times); run++) await runOnce(run);
} finally {
  for (const child of busy) child.kill('SIGKILL');
  await rm(directory, { recursive: true, force: true });
}

async function runOnce(run: number): Promise<void> {
  const file = join(directory, `${run}.json`);
  const startedAt = performance.now();
  const output = ['--reporter=json', `--outputFile=${file}`];
  const status = await statusOf(
    spawn(process.execPath, [VITEST, 'run', ...output, ...positionals], {
      stdio: ['ignore', 'ignore', 'inherit'],
    }),
  );
  const seconds = Math.round((performance.now() - startedAt) / 1_000);
  const report: Report = JSON.parse(await readFile(file, 'utf8'));
  const { numPassedTests, numFailedTests, numPendingTests, testResults } = report;
  console.log(
    `run ${run}: ${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped, ` +
      `${seconds} s, exit status ${status}`,
  );
  for (const { name, status: ofFile, message, assertionResults } of testResults) {
    for (const each of assertionResults) {
      if (each.status === 'failed') console.log(`  ${name}: ${each.fullName}`);
    }
    if (ofFile === 'failed' && message) console.log(`  ${name}: ${message}`);
  }
  if (status !== 0) process.exitCode = 1;
}

async function statusOf(child: ChildProcess): Promise<number | string> {
  const [status, signal] = await once(child, 'exit');
  return status ?? signal;
}
