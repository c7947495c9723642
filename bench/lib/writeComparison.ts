import { copy } from './baselines/copy.js';
import { BASELINES } from './baselines/index.js';
import { rawInsert } from './baselines/rawInsert.js';
import { seed } from './baselines/seed.js';
import type { Bench } from './bench.js';
import { compareApproaches, scheduleOf } from './compare.js';
import { append, groupCommit, hostPool, oneEvent } from './ours.js';
import type { Population } from './population.js';
import type { ApproachFigures, Comparison, Findings, Target } from './scenario.js';
import { median, ratiosPerRound } from './statistics.js';

export const WRITE_BASELINES = `Each approach writes the same usage columns and the same metadata row,
through the same Node client (pg, prepared by name, 32 connections, 32 calls in flight), durably, on
a database of its own in the same server. Group commit has 256 calls in flight; COPY four, of 500
rows. The baselines are given the ids of lookup values (which the seed's statement found itself: that form is
measured as well); the ledger finds them in its cache.`;

const SECONDS = 6;
const OTHERS = BASELINES.filter((baseline) => baseline !== seed && baseline !== copy);

/** What ours must reach: at least so many times the events/s of the other; null: no target was set. */
export interface WriteTargets {
  oneEvent: number | null;
  /** Without a balance, its folds counted in. */
  append: number | null;
  /** Without a balance, against an insert that keeps no totals. */
  appendToRaw: number | null;
  groupCommit: number | null;
  groupCommitToCopy: number | null;
  hostPool: number | null;
}

/** All approaches on one population: the figures, and ours against each of the others. */
export async function compareWrites(
  bench: Bench,
  population: Population,
  targets: WriteTargets,
): Promise<Findings> {
  const all = [...BASELINES, oneEvent, append, groupCommit, hostPool];
  const chosen = bench.options.approaches;
  const isChosen = ({ name }: { name: string }) =>
    chosen === null || name === seed.name || chosen.includes(name);
  const { figures, checks } = await compareApproaches(
    bench,
    population,
    all.filter(isChosen),
    scheduleOf(bench, SECONDS),
  );
  const pairs: [subject: string, baseline: string, atLeast: number | null, settled?: 'settled'][] =
    [
      [oneEvent.name, seed.name, targets.oneEvent],
      [append.name, seed.name, targets.append, 'settled'],
      [append.name, rawInsert.name, targets.appendToRaw],
      [groupCommit.name, seed.name, targets.groupCommit],
      [groupCommit.name, copy.name, targets.groupCommitToCopy],
      [hostPool.name, seed.name, targets.hostPool],
      ...OTHERS.map(({ name }): [string, string, null] => [oneEvent.name, name, null]),
      // What no way of keeping totals can exceed with one event a statement.
      [rawInsert.name, seed.name, null],
    ];
  const isMeasured = (wanted: string) => figures.some(({ name }) => name === wanted);
  return {
    throughput: figures,
    comparisons: pairs
      .filter(([subject, baseline]) => isMeasured(subject) && isMeasured(baseline))
      .map(([subject, baseline, atLeast, settled]) => {
        const target = atLeast === null ? null : { atLeast };
        return settled
          ? againstSettled(figures, subject, baseline, target)
          : against(figures, subject, baseline, target);
      }),
    charts: [throughputChart(figures)],
    checks,
  };
}

export function against(
  figures: readonly ApproachFigures[],
  subjectName: string,
  baselineName: string,
  target: Target | null,
): Comparison {
  const find = (name: string) => {
    const found = figures.find((figure) => figure.name === name);
    if (!found) throw new Error(`no figures of ${name}`);
    return found;
  };
  const subject = find(subjectName);
  const baseline = find(baselineName);
  return {
    subject: subject.label,
    baseline: baseline.label,
    measure: 'events/s',
    ratios: ratiosPerRound(subject.eventsPerSecond, baseline.eventsPerSecond),
    target,
  };
}

/** Of both, the time until their totals were up to date is counted as well. */
function againstSettled(
  figures: readonly ApproachFigures[],
  subject: string,
  baseline: string,
  target: Target | null,
): Comparison {
  const settled = figures.map((figure) => ({
    ...figure,
    eventsPerSecond: figure.settledEventsPerSecond,
  }));
  return { ...against(settled, subject, baseline, target), measure: 'events/s, totals up to date' };
}

export function throughputChart(figures: readonly ApproachFigures[]) {
  return {
    type: 'bar' as const,
    name: 'throughput',
    title: 'Acknowledged events a second (median of rounds; whiskers: slowest and fastest)',
    unit: 'events/s',
    bars: figures.map(({ label, kind, eventsPerSecond }) => ({
      label,
      kind,
      value: median(eventsPerSecond),
      low: Math.min(...eventsPerSecond),
      high: Math.max(...eventsPerSecond),
    })),
  };
}
