import type { Comparison, Quantiles, Target } from './scenario.js';

/** The value below which the share `q` of the values lies (nearest rank). */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const rank = Math.ceil(q * sorted.length) - 1;
  return sorted[Math.min(Math.max(rank, 0), sorted.length - 1)] as number;
}

/** The mean of the two middle values where there are two. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function quantilesOf(values: readonly number[]): Quantiles {
  return {
    p50: round(quantile(values, 0.5)),
    p99: round(quantile(values, 0.99)),
    max: round(quantile(values, 1)),
  };
}

/** Rounds to `digits` significant digits: a measurement has no more to say. */
export function round(value: number, digits = 4): number {
  return Number.isFinite(value) ? Number(value.toPrecision(digits)) : value;
}

/** Per round, so that a slow moment of the machine harms both sides of a ratio. */
export function ratiosPerRound(subject: readonly number[], baseline: readonly number[]): number[] {
  const rounds = Math.min(subject.length, baseline.length);
  return Array.from({ length: rounds }, (_, index) =>
    round((subject[index] as number) / (baseline[index] as number)),
  );
}

/** Judged by the median over rounds. */
export function isReached(comparison: Comparison): boolean | null {
  if (comparison.target === null) return null;
  return meets(median(comparison.ratios), comparison.target);
}

function meets(ratio: number, target: Target): boolean {
  return 'atLeast' in target ? ratio >= target.atLeast : ratio <= target.atMost;
}
