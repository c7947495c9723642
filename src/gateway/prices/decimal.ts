import { toMicrodollars } from '../../money.js';

/** An exact decimal: `units` x 10^-`scale`. Prices are decimals, so nothing is ever rounded here. */
export interface Decimal {
  units: bigint;
  scale: number;
}

export const ZERO: Decimal = { units: 0n, scale: 0 };
const PATTERN = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i;
const MAX_SCALE = 60;

/**
 * Decimal text, or a number in its shortest decimal form, which is what its author wrote.
 * Null for anything else, and for exponents past any price.
 */
export function parseDecimal(value: string | number): Decimal | null {
  const match = PATTERN.exec(String(value).trim());
  if (match === null) return null;
  const [, sign, whole = '', fraction = '', exponent = '0'] = match;
  const scale = fraction.length - Number(exponent);
  if (Math.abs(scale) > MAX_SCALE || whole.length + fraction.length > 2 * MAX_SCALE) return null;
  const digits = BigInt(whole + fraction);
  const units = scale < 0 ? digits * 10n ** BigInt(-scale) : digits;
  return { units: sign === '-' ? -units : units, scale: Math.max(0, scale) };
}

export function add(one: Decimal, other: Decimal): Decimal {
  const scale = Math.max(one.scale, other.scale);
  const raise = ({ units, scale: from }: Decimal) => units * 10n ** BigInt(scale - from);
  return { units: raise(one) + raise(other), scale };
}

export function multiply(one: Decimal, other: Decimal): Decimal {
  return { units: one.units * other.units, scale: one.scale + other.scale };
}

/** `count` at a price per 10^`perExponent` of them. */
export function priceOf(count: number, price: Decimal, perExponent: number): Decimal {
  return { units: BigInt(count) * price.units, scale: price.scale + perExponent };
}

/** The largest cost that the ledger takes for one event. */
const MAX_COST_MICRODOLLARS = 1e12;
const MAX_COST: Decimal = { units: BigInt(MAX_COST_MICRODOLLARS), scale: 6 };

/** USD to whole microdollars; what is more than a ledger takes becomes the most that it does. */
export function toMicrodollarsWithin(usd: Decimal): { microdollars: number; isCut: boolean } {
  const isCut = isMore(usd, MAX_COST);
  return { microdollars: roundToMicrodollars(isCut ? MAX_COST : usd), isCut };
}

export function isMore(one: Decimal, other: Decimal): boolean {
  return add(one, { units: -other.units, scale: other.scale }).units > 0n;
}

/**
 * USD to whole microdollars: the one rounding of a price, half away from zero.
 * @throws LedgerError `out_of_range`
 */
export function roundToMicrodollars(usd: Decimal): number {
  const sign = usd.units < 0n ? '-' : '';
  const digits = String(usd.units < 0n ? -usd.units : usd.units);
  return toMicrodollars(`${sign}${digits}e-${usd.scale}`);
}

export function formatDecimal({ units, scale }: Decimal): string {
  const digits = String(units).padStart(scale + 1, '0');
  const whole = digits.slice(0, digits.length - scale);
  const fraction = digits.slice(digits.length - scale).replace(/0+$/, '');
  return fraction === '' ? whole : `${whole}.${fraction}`;
}
