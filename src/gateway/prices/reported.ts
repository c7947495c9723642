import { add, type Decimal, parseDecimal, toMicrodollarsWithin } from './decimal.js';
import type { PricedReading } from './pricer.js';

/** USD as reported; for a key of the operator's own, with what that key paid its provider. */
export function reportedUsd(reading: PricedReading): Decimal | null {
  const cost = reading.costUsd == null ? null : parseDecimal(reading.costUsd);
  if (cost === null || cost.units < 0n) return null;
  const upstream = reading.upstreamCostUsd == null ? null : parseDecimal(reading.upstreamCostUsd);
  return reading.isByok && upstream !== null ? add(cost, upstream) : cost;
}

/** Microdollars, as a row keeps them also where they are not what is charged; null = none. */
export function reportedMicrodollars(reading: PricedReading): number | null {
  const usd = reportedUsd(reading);
  return usd === null ? null : toMicrodollarsWithin(usd).microdollars;
}
