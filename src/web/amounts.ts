import { formatUsd } from '../money.js';

/** Whole microdollars; beyond 2^53 the API sends a decimal string. */
export type Microdollars = number | bigint | string;

type Decimal = Intl.StringNumericLiteral;

const MAX_DECIMALS = 6;
const FORMATS = Array.from({ length: MAX_DECIMALS + 1 }, (_, most) =>
  [0, 2, MAX_DECIMALS].map(
    (least) =>
      new Intl.NumberFormat('en-US', {
        style: 'currency',
        currency: 'USD',
        minimumFractionDigits: Math.min(least, most),
        maximumFractionDigits: most,
      }),
  ),
);
const COUNT = new Intl.NumberFormat('en-US');
const COMPACT = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });
const COMPACT_USD = new Intl.NumberFormat('en-US', {
  style: 'currency',
  currency: 'USD',
  notation: 'compact',
  maximumFractionDigits: 2,
});

/**
 * The one rule for amounts: cents from ten cents up; below, three significant digits, at most the
 * six decimals that a microdollar has. So $1,234.57, $0.0123 and $0.000001; only zero is $0.00.
 */
export function formatAmount(amountMicrodollars: Microdollars): string {
  const amount = BigInt(amountMicrodollars);
  return currency(2, decimalsOf(amount)).format(formatUsd(amount) as Decimal);
}

/** $1,234.567890: to the microdollar. */
export function formatExact(amountMicrodollars: Microdollars): string {
  return currency(6, 6).format(formatUsd(BigInt(amountMicrodollars)) as Decimal);
}

/** Ticks of an axis in microdollars: as many decimals as the step needs, large ones in short. */
export function formatAxisAmount(amountMicrodollars: number, stepMicrodollars: number): string {
  const usd = amountMicrodollars / 1_000_000;
  const step = stepMicrodollars / 1_000_000;
  if (Math.abs(usd) >= 10_000) return COMPACT_USD.format(usd);
  if (step >= 1) return currency(0, 0).format(usd);
  const decimals = Math.ceil(-Math.log10(step) - 1e-9);
  const most = Math.min(MAX_DECIMALS, Math.max(2, decimals));
  return currency(6, most).format(usd === 0 ? 0 : usd);
}

/** An amount that the server has rounded to cents already. */
export function formatRoundedUsd(usd: number): string {
  return currency(2, 2).format(usd === 0 ? 0 : usd);
}

/** A decimal string, as the server sends what is past 2^53, is exact. */
export function formatCount(count: number | bigint | string): string {
  return COUNT.format(typeof count === 'string' ? BigInt(count) : count);
}

/** 1 total, 2 totals */
export function formatPlural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** 12.3K; for tiles and axes. */
export function formatCompact(count: number | bigint): string {
  return COMPACT.format(count);
}

/** Exact however many there are: a sum of safe integers may be none. */
export function sumMicrodollars(amounts: Iterable<Microdollars>): bigint {
  let sum = 0n;
  for (const amount of amounts) sum += BigInt(amount);
  return sum;
}

/** "12% more than", for a figure beside its predecessor; null where there is nothing to compare. */
export function describeChange(now: bigint, before: bigint): string | null {
  if (before <= 0n) return null;
  if (now === before) return 'the same as';
  const permille = Number(((now - before) * 1_000n) / before);
  const percent = Math.abs(permille) / 10;
  const direction = now > before ? 'more' : 'less';
  if (percent < 0.1) return `hardly ${direction} than`;
  return `${formatCount(percent >= 10 ? Math.round(percent) : percent)}% ${direction} than`;
}

function decimalsOf(amountMicrodollars: bigint): number {
  const size = amountMicrodollars < 0n ? -amountMicrodollars : amountMicrodollars;
  if (size === 0n || size >= 100_000n) return 2;
  const zeros = MAX_DECIMALS - String(size).length;
  return Math.min(MAX_DECIMALS, zeros + 3);
}

function currency(least: 0 | 2 | 6, most: number): Intl.NumberFormat {
  const format = FORMATS[most]?.[least === 0 ? 0 : least === 2 ? 1 : 2];
  if (format === undefined) throw new Error(`no format with ${most} decimals`);
  return format;
}
