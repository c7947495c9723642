import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Environment } from './environment.js';
import type { Findings, Scenario } from './scenario.js';

/** One run of one scenario, as stored; reports quote nothing else. */
export interface Result {
  scenario: Pick<Scenario, 'name' | 'title' | 'question' | 'workload' | 'baseline'>;
  /** ISO 8601. */
  startedAt: string;
  durationSeconds: number;
  quick: boolean;
  /** `--seconds`, where it was given: not the scenario's own length. */
  seconds: number | null;
  /** Share of the machine's processors that had nothing to do in the second before, 0 to 1. */
  idleBefore: number;
  environment: Environment;
  findings: Findings;
}

export const RESULTS_DIRECTORY = fileURLToPath(new URL('../results', import.meta.url));

export function writeResult(result: Result, directory = RESULTS_DIRECTORY): string {
  mkdirSync(directory, { recursive: true });
  const file = `${directory}/${result.scenario.name}.json`;
  writeFileSync(file, `${toJson(result)}\n`);
  return file;
}

/** Stored results, by scenario name. */
export function readResults(directory = RESULTS_DIRECTORY): Map<string, Result> {
  const files = readdirSync(directory).filter((file) => file.endsWith('.json'));
  const results = files.map(
    (file) => JSON.parse(readFileSync(`${directory}/${file}`, 'utf8')) as Result,
  );
  return new Map(results.map((result) => [result.scenario.name, result]));
}

/** Indented, with lists of numbers on one line: a diff shows what changed. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(
    /\[\s+((?:-?[\d.e+-]+|null|"[^"\n]*")(?:,\s+(?:-?[\d.e+-]+|null|"[^"\n]*"))*)\s+\]/g,
    (_, items: string) => `[${items.replace(/,\s+/g, ', ')}]`,
  );
}
