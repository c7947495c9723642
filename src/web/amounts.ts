import { formatUsd } from '../money.js';

/** Whole microdollars; beyond 2^53 the API sends a decimal string. */
export type Microdollars = number | bigint | string;

type Decimal = Intl.StringNumericLiteral;

const CENTS = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD' });
const EXACT = new Intl.NumberFormat('en-US', {
  style: 'currency',
  currency: 'USD',
  minimumFractionDigits: 6,
  maximumFractionDigits: 6,
});
const COUNT = new Intl.NumberFormat('en-US');
const COMPACT = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });

/** $1,234.57: two decimals, half away from zero, never through floating point. */
export function formatCents(amountMicrodollars: Microdollars): string {
  const text = CENTS.format(formatUsd(BigInt(amountMicrodollars)) as Decimal);
  const isTiny = BigInt(amountMicrodollars) !== 0n && /^-?\$0\.00$/.test(text);
  if (!isTiny) return text.replace(/^-(\$0\.00)$/, '$1');
  return BigInt(amountMicrodollars) < 0n ? '> -$0.01' : '< $0.01';
}

/** $1,234.567890: to the microdollar. */
export function formatExact(amountMicrodollars: Microdollars): string {
  return EXACT.format(formatUsd(BigInt(amountMicrodollars)) as Decimal);
}

/** An amount that the server has rounded to cents already. */
export function formatRoundedUsd(usd: number): string {
  return CENTS.format(usd);
}

/** A decimal string, as the server sends what is past 2^53, is exact. */
export function formatCount(count: number | string): string {
  return COUNT.format(typeof count === 'string' ? BigInt(count) : count);
}

/** 1 total, 2 totals */
export function formatPlural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** 12.3K; for tiles and axes. */
export function formatCompact(count: number): string {
  return COMPACT.format(count);
}

/** Exact whatever the number of days: a sum of safe integers may be none. */
export function sumMicrodollars(amounts: Iterable<Microdollars>): bigint {
  let sum = 0n;
  for (const amount of amounts) sum += BigInt(amount);
  return sum;
}
