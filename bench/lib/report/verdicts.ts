import type { Result } from '../results.js';
import type { ApproachFigures, Comparison } from '../scenario.js';
import { isReached, median } from '../statistics.js';
import { formatNumber } from './svg.js';

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

/**
 * Where something else writes faster than ours in the same shape: one event a call against one
 * event a call, batches against group commit. Limits count too, for they are what is given up.
 */
export function winnersOf({ scenario, findings }: Result): string[] {
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
      const factor = formatNumber(rateOf(figure) / rateOf(best));
      const price = figure.caveat === '' ? '' : `; its price: ${figure.caveat}`;
      const grouping =
        !isBatch && grouped && rateOf(grouped) > rateOf(figure)
          ? `; group commit is ${formatNumber(rateOf(grouped) / rateOf(figure))}x as fast as it`
          : '';
      return [
        `${scenario.title}: ${figure.label} writes ${factor}x as fast as ${best.label}${price}${grouping}.`,
      ];
    });
}

function rateOf(figure: ApproachFigures): number {
  return median(figure.eventsPerSecond);
}
