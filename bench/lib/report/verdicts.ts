import type { Result } from '../results.js';
import type { ApproachFigures, Comparison } from '../scenario.js';
import { isReached, median } from '../statistics.js';

export interface TargetRow {
  scenario: string;
  comparison: Comparison;
  reached: boolean;
}

/** Every comparison that has a target, in the order of the scenarios. */
export function targetsOf(results: readonly Result[]): TargetRow[] {
  return results.flatMap(({ scenario, findings }) =>
    (findings.comparisons ?? []).flatMap((comparison) => {
      const reached = isReached(comparison);
      return reached === null ? [] : [{ scenario: scenario.title, comparison, reached }];
    }),
  );
}

/** Something that writes faster than ours, and at what price. */
export interface Winner {
  scenario: string;
  winner: string;
  loser: string;
  factor: number;
  price: string;
  /** Group commit against the winner, which sends one event a statement; else null. */
  groupCommitFactor: number | null;
}

/**
 * Where something else writes faster than ours in the same shape: one event a call against one
 * event a call, batches against group commit. Limits count too, for they are what is given up.
 */
export function winnersOf({ scenario, findings }: Result): Winner[] {
  const figures = findings.throughput ?? [];
  const find = (name: string) => figures.find((figure) => figure.name === name);
  const [oneEvent, append, grouped] = ['ours', 'ours-append', 'ours-group-commit'].map(find);
  return figures
    .filter(({ kind }) => kind !== 'ours')
    .flatMap((figure) => {
      const isBatch = figure.eventsPerCall > 1;
      const same = (isBatch ? [grouped] : [oneEvent, append]).filter((each) => each !== undefined);
      const best = same.toSorted((a, b) => rateOf(b) - rateOf(a))[0];
      if (!best || rateOf(figure) <= rateOf(best)) return [];
      return [
        {
          scenario: scenario.title,
          winner: figure.label,
          loser: best.label,
          factor: rateOf(figure) / rateOf(best),
          price: figure.caveat,
          groupCommitFactor: isBatch || !grouped ? null : rateOf(grouped) / rateOf(figure),
        },
      ];
    });
}

function rateOf(figure: ApproachFigures): number {
  return median(figure.eventsPerSecond);
}
