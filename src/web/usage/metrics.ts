import {
  formatAmount,
  formatAxisAmount,
  formatCompact,
  formatCount,
  formatExact,
} from '../amounts.js';

export const METRICS = ['cost', 'requests', 'tokens'] as const;
export type Metric = (typeof METRICS)[number];

export const METRIC_CHOICES: readonly { id: Metric; text: string }[] = [
  { id: 'cost', text: 'Cost' },
  { id: 'requests', text: 'Requests' },
  { id: 'tokens', text: 'Tokens' },
];

export const COLUMNS = [
  'cost_microdollars',
  'requests',
  'errors',
  'input_tokens',
  'output_tokens',
  'cache_hit_tokens',
  'cache_write_tokens',
] as const;
type Column = (typeof COLUMNS)[number];

/** What a report says of one period and group; exact whatever the size. */
export type Sums = Record<Column, bigint>;

/** As JSON has them: a decimal string beyond 2^53. */
export function readSums(row: Record<Column, number | string>): Sums {
  return Object.fromEntries(COLUMNS.map((name) => [name, BigInt(row[name])])) as Sums;
}

export function noSums(): Sums {
  return Object.fromEntries(COLUMNS.map((name) => [name, 0n])) as Sums;
}

/** Adds in place. */
export function addSums(to: Sums, sums: Sums): void {
  for (const name of COLUMNS) to[name] += sums[name];
}

/** Tokens: input and output; the cached are part of the input. */
export function metricOf(sums: Sums, metric: Metric): bigint {
  if (metric === 'cost') return sums.cost_microdollars;
  if (metric === 'requests') return sums.requests;
  return sums.input_tokens + sums.output_tokens;
}

export function hasUsage(sums: Sums): boolean {
  return COLUMNS.some((name) => sums[name] !== 0n);
}

/** For reading: amounts by the one rule, counts in full. */
export function formatValue(value: bigint, metric: Metric): string {
  return metric === 'cost' ? formatAmount(value) : formatCount(value);
}

/** To the microdollar. */
export function formatExactValue(value: bigint, metric: Metric): string {
  return metric === 'cost' ? formatExact(value) : `${formatCount(value)} ${metric}`;
}

export function formatAxisValue(value: number, step: number, metric: Metric): string {
  return metric === 'cost' ? formatAxisAmount(value, step) : formatCompact(value);
}
