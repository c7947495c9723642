import { LedgerError } from './errors.js';

/** 1 USD in microdollars. */
const MICRODOLLARS_PER_USD = 1_000_000;

/** More digits are no amount, and take their time to be one. */
const MAX_LENGTH = 1_000;

/**
 * USD to whole microdollars. The one place where an amount is rounded: half away from zero.
 * Takes a decimal string ("0.000123", exact) or a number (rounded from its shortest decimal form).
 * @throws LedgerError `invalid_event` when it is not finite, `out_of_range` beyond 2^53 microdollars
 */
export function toMicrodollars(usd: number | string): number {
  const text = String(usd).trim();
  const pattern = /^([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?$/i;
  const match = text.length > MAX_LENGTH ? null : pattern.exec(text);
  const whole = match?.[2] ?? '';
  const fraction = match?.[3] ?? '';
  if (!match || whole + fraction === '') {
    throw new LedgerError('invalid_event', `not an amount in USD: ${text.slice(0, 40)}`);
  }
  const exponent = Number(match[4] ?? 0) + 6;
  if (Math.abs(exponent) > 400) {
    throw new LedgerError('invalid_event', `not an amount in USD: ${text.slice(0, 40)}`);
  }
  const magnitude = roundDecimal(whole + fraction, exponent - fraction.length);
  if (magnitude > BigInt(Number.MAX_SAFE_INTEGER)) {
    const most = formatUsd(Number.MAX_SAFE_INTEGER);
    throw new LedgerError('out_of_range', `at most ${most} USD, not ${text.slice(0, 40)}`);
  }
  return toSafeInteger(match[1] === '-' ? -magnitude : magnitude);
}

/** digits x 10^shift to an integer, half up. */
function roundDecimal(digits: string, shift: number): bigint {
  if (shift >= 0) return BigInt(digits) * 10n ** BigInt(shift);
  const divisor = 10n ** BigInt(-shift);
  return (BigInt(digits) + divisor / 2n) / divisor;
}

/** Microdollars to USD as a number; exact to the microdollar for |amount| < 2^53. */
export function fromMicrodollars(amountMicrodollars: number): number {
  return amountMicrodollars / MICRODOLLARS_PER_USD;
}

/** Microdollars to a decimal USD string with six places, without floating point. */
export function formatUsd(amountMicrodollars: number | bigint): string {
  const amount = BigInt(amountMicrodollars);
  const magnitude = amount < 0n ? -amount : amount;
  const fraction = String(magnitude % 1_000_000n).padStart(6, '0');
  return `${amount < 0n ? '-' : ''}${magnitude / 1_000_000n}.${fraction}`;
}

/** Microdollars divided by `divisor`, as USD rounded once to cents, half away from zero. */
export function toUsdCents(amountMicrodollars: bigint, divisor: bigint): number {
  const magnitude = amountMicrodollars < 0n ? -amountMicrodollars : amountMicrodollars;
  const unit = 10_000n * divisor;
  const cents = (magnitude * 2n + unit) / (unit * 2n);
  return Number(amountMicrodollars < 0n ? -cents : cents) / 100;
}

/** An integer from the database as a JavaScript number; never a silent rounding. */
export function toSafeInteger(value: bigint | number | string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) {
    throw new LedgerError('out_of_range', 'amount exceeds the safe integer range (2^53 - 1)');
  }
  return number === 0 ? 0 : number;
}

/**
 * An integer from the database of whatever size, exact: a number up to 2^53, a bigint beyond. Sums
 * that may pass 2^53 travel so in the library, and as decimal strings in JSON.
 */
export function toExactInteger(value: bigint | number | string): number | bigint {
  const exact = BigInt(value);
  const number = Number(exact);
  return Number.isSafeInteger(number) ? number : exact;
}

/** The same for JSON, which has no bigint: a decimal string beyond 2^53. */
export function toJsonInteger(value: bigint | number | string): number | string {
  const exact = toExactInteger(value);
  return typeof exact === 'bigint' ? String(exact) : exact;
}

/** For `JSON.stringify`: amounts beyond 2^53 as decimal strings. */
export function exactIntegers(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

/** What JSON makes of a value: an integer past 2^53 is its decimal text. */
export type Json<T> = T extends bigint
  ? string
  : T extends object
    ? { [Name in keyof T]: Json<T[Name]> }
    : T;

/** The value itself where it has no bigint. */
export function toJson<T>(value: T): Json<T> {
  const text = hasBigint(value) ? JSON.stringify(value, exactIntegers) : null;
  return (text === null ? value : JSON.parse(text)) as Json<T>;
}

/** A function that is called for each value takes as long again as the text: only where it is needed. */
export function toJsonText(value: unknown): string {
  return hasBigint(value) ? JSON.stringify(value, exactIntegers) : JSON.stringify(value);
}

function hasBigint(value: unknown): boolean {
  if (typeof value === 'bigint') return true;
  if (typeof value !== 'object' || value === null) return false;
  if (Array.isArray(value)) return value.some(hasBigint);
  for (const name in value) {
    if (hasBigint((value as Record<string, unknown>)[name])) return true;
  }
  return false;
}
