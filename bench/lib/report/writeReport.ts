import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SCENARIOS } from '../../scenarios/index.js';
import { type Result, readResults } from '../results.js';
import { CHART_DIRECTORY, renderReport } from './renderReport.js';

const DOCS = fileURLToPath(new URL('../../../docs', import.meta.url));

/** Kept results in the order of the scenarios. */
export function orderedResults(): Result[] {
  const results = readResults();
  return SCENARIOS.flatMap(({ name }) => results.get(name) ?? []);
}

/** Writes docs/benchmarks.md and its charts; returns the files. */
export function writeReport(): string[] {
  const { markdown, charts } = renderReport(orderedResults());
  const directory = `${DOCS}/${CHART_DIRECTORY}`;
  mkdirSync(directory, { recursive: true });
  const files = [`${DOCS}/benchmarks.md`];
  writeFileSync(`${DOCS}/benchmarks.md`, markdown);
  for (const [name, svg] of charts) {
    writeFileSync(`${directory}/${name}`, svg);
    files.push(`${directory}/${name}`);
  }
  return files;
}
