import type { StepEstimate } from '../db/migrate/estimate.js';
import type { Step } from '../db/migrate/step.js';
import type { MigrationPlan } from '../db/migrate.js';
import { alignTable, formatBytes, formatCount, formatDuration } from './output.js';

export function planDocument(plan: MigrationPlan) {
  return {
    dry_run: true,
    adoption: plan.work === 'adopt',
    unapplied: plan.unapplied,
    count_foreign_rows: plan.countsForeignRows,
    steps: plan.steps.map((step, index) => ({
      kind: step.kind,
      subject: step.subject,
      tables: step.tables,
      lock: step.lock,
      duration: step.duration,
      estimate: toEstimateDocument(plan.estimates[index] ?? null),
      statements: step.statements,
    })),
    problems: plan.problems,
    warnings: plan.warnings,
  };
}

const TITLES = {
  adopt: 'this database has tables of its own: it would be adopted online, beside its writers',
  upgrade: 'this database is of an older version: it would be changed online, beside its writers',
  install: 'would be applied, in one transaction',
  change: 'the schema is up to date; would be done, step by step',
} as const;

export function describePlan(plan: MigrationPlan): string {
  if (plan.steps.length === 0) return ['nothing to do', ...remarks(plan)].join('\n');
  const title = TITLES[plan.work ?? (plan.unapplied.length === 0 ? 'change' : 'install')];
  const rows = plan.steps.map((step, index) => [
    step.duration,
    lockOf(step),
    kindOf(step),
    ...estimateCells(plan.estimates[index] ?? null),
    step.subject,
  ]);
  const head = ['', 'lock', 'step', 'rows', 'reads', 'takes', 'adds', ''];
  return [
    title,
    alignTable([head, ...rows], [3, 4, 5, 6]),
    ...describeTotal(plan.estimates),
    ...remarks(plan),
  ].join('\n');
}

function estimateCells(estimate: StepEstimate | null): string[] {
  if (estimate === null) return ['', '', '', ''];
  const { rows, bytes, seconds, diskBytes } = estimate;
  return [
    formatCount(Math.round(rows)),
    formatBytes(bytes),
    formatDuration(seconds),
    diskBytes === 0 ? '' : formatBytes(diskBytes),
  ];
}

/** Beside what each step says; the server needs the disk before it has the time. */
function describeTotal(estimates: readonly (StepEstimate | null)[]): string[] {
  const long = estimates.filter((estimate) => estimate !== null);
  if (long.length === 0) return [];
  const seconds = long.reduce((sum, estimate) => sum + estimate.seconds, 0);
  const diskBytes = long.reduce((sum, estimate) => sum + estimate.diskBytes, 0);
  return [
    `long steps: about ${formatDuration(seconds)} in all, and at most ${formatBytes(diskBytes)} of ` +
      'disk, by the statistics of the server; reads and writes go on meanwhile',
  ];
}

function toEstimateDocument(estimate: StepEstimate | null) {
  if (estimate === null) return null;
  return {
    rows: Math.round(estimate.rows),
    bytes: estimate.bytes,
    seconds: Math.ceil(estimate.seconds),
    disk_bytes: estimate.diskBytes,
  };
}

/** To be read, not to be run: steps also retry, and some do what statements cannot. */
export function planSql(plan: MigrationPlan): string {
  const lines = plan.steps.flatMap((step, index) => [
    `-- ${index + 1}. ${kindOf(step)}: ${step.subject.replaceAll('\n', ' ')}` +
      (step.isConcurrent ? ' (outside of a transaction)' : ''),
    ...(step.work === undefined ? [] : ['-- and what a statement cannot do; see the source']),
    ...step.statements.map((statement) => `${statement.trim().replace(/;$/, '')};`),
  ]);
  return [...lines, ...remarks(plan).map((remark) => `-- ${remark}`)].join('\n');
}

const lockOf = (step: Step) => (step.lock === 'none' ? '-' : step.lock.toLowerCase());
const kindOf = (step: Step) => step.kind.replaceAll('_', ' ');

function remarks(plan: MigrationPlan): string[] {
  return [
    describeForeignRows(plan.countsForeignRows),
    ...plan.warnings.map((warning) => `warning: ${warning}`),
    ...plan.problems.map((problem) => `in the way: ${problem}`),
  ];
}

export const describeForeignRows = (areCounted: boolean) =>
  areCounted
    ? 'usage rows of other programs are counted at once'
    : 'usage rows of other programs are counted by backfill or repair ' +
      '(at once: --count-foreign-rows on)';
