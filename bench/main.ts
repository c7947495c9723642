import { parseArgs } from 'node:util';
import { Bench, type BenchOptions } from './lib/bench.js';
import { measureIdle } from './lib/environment.js';
import { type Result, writeResult } from './lib/results.js';
import type { Scenario } from './lib/scenario.js';
import { summarize } from './lib/summary.js';
import { SCENARIOS } from './scenarios/index.js';

const USAGE = `Usage: npm run bench -- [options]
  --scenario S   only this scenario; may be given several times
  --approach A   only these ways to write, and the seed's; may be given several times
  --seconds N    measured seconds per approach
  --quick        a short run to see that everything works; its figures are not kept
  --large        also 30 million rows, where sizes matter
  --rows N       backfill: only a history of N rows; its figures are not kept
  --json         print the results as one JSON document
  --no-save      do not keep the figures of this run
  --report       measure nothing: write docs/benchmarks.md from the kept results
  --list         the scenarios

Scenarios: ${SCENARIOS.map((scenario) => scenario.name).join(', ')}`;

function fail(message: string): never {
  process.stderr.write(`error: ${message}\n\n${USAGE}\n`);
  process.exit(2);
}

function readOptions() {
  try {
    return parseArgs({
      options: {
        scenario: { type: 'string', multiple: true },
        approach: { type: 'string', multiple: true },
        seconds: { type: 'string' },
        quick: { type: 'boolean', default: false },
        large: { type: 'boolean', default: false },
        rows: { type: 'string' },
        json: { type: 'boolean', default: false },
        save: { type: 'boolean', default: true },
        report: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
      allowNegative: true,
    }).values;
  } catch (error) {
    return fail((error as Error).message);
  }
}

const options = readOptions();

function chooseScenarios(): readonly Scenario[] {
  if (options.scenario === undefined) return SCENARIOS;
  return options.scenario.map(
    (name) =>
      SCENARIOS.find((scenario) => scenario.name === name) ?? fail(`no scenario named ${name}`),
  );
}

function readPositive(name: 'seconds' | 'rows'): number | null {
  if (options[name] === undefined) return null;
  const value = Number(options[name]);
  if (!(value > 0)) return fail(`--${name} must be a number above 0`);
  return value;
}

async function measure(): Promise<boolean> {
  const scenarios = chooseScenarios();
  const log = (line: string) => {
    if (!options.json) process.stderr.write(`${line}\n`);
  };
  const benchOptions: BenchOptions = {
    quick: options.quick,
    seconds: readPositive('seconds'),
    approaches: options.approach ?? null,
    large: options.large,
    rows: readPositive('rows'),
    log,
  };
  // Part of a scenario, or a short form of it, is no result.
  const isPart = options.quick || options.approach !== undefined || options.rows !== undefined;
  const isKept = options.save && !isPart;
  const bench = await Bench.start(benchOptions);
  const results: Result[] = [];
  try {
    for (const scenario of scenarios) {
      log(`${scenario.name}: ${scenario.question}`);
      const result = await runScenario(scenario, bench).catch((error: Error) => {
        process.stderr.write(`${scenario.name} failed: ${error.stack}\n`);
        return null;
      });
      if (!result) continue;
      results.push(result);
      if (isKept) {
        writeResult(result);
        // At once, so that the committed report is that of the committed results, also when a later scenario is ended early.
        await report();
      }
      if (!options.json) process.stdout.write(`${summarize(result)}\n\n`);
    }
  } finally {
    await bench.stop();
  }
  if (options.json) process.stdout.write(`${JSON.stringify(results)}\n`);
  const isSound = (result: Result) => result.findings.checks.every((check) => check.ok);
  return results.length === scenarios.length && results.every(isSound);
}

async function report(): Promise<string[]> {
  const { writeReport } = await import('./lib/report/writeReport.js');
  return writeReport();
}

async function runScenario(scenario: Scenario, bench: Bench): Promise<Result> {
  const idleBefore = await measureIdle();
  const startedAt = new Date();
  const { name, title, question, workload, baseline } = scenario;
  const findings = await scenario.run(bench);
  return {
    scenario: { name, title, question, workload, baseline },
    startedAt: startedAt.toISOString(),
    durationSeconds: Math.round((Date.now() - startedAt.getTime()) / 1000),
    quick: bench.options.quick,
    seconds: bench.options.seconds,
    idleBefore,
    environment: bench.environment,
    findings,
  };
}

if (options.help || options.list) {
  const listed = SCENARIOS.map(({ name, question }) => `${name}: ${question}`).join('\n');
  process.stdout.write(`${options.help ? USAGE : listed}\n`);
} else if (options.report) {
  for (const file of await report()) process.stdout.write(`${file}\n`);
} else if (!(await measure())) {
  process.exitCode = 1;
}
