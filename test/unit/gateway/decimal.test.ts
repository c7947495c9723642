import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  add,
  formatDecimal,
  multiply,
  parseDecimal,
  roundToMicrodollars,
} from '../../../src/gateway/prices/decimal.js';

describe('decimals', () => {
  const decimal = fc
    .tuple(fc.bigInt(-(10n ** 15n), 10n ** 15n), fc.integer({ min: 0, max: 20 }))
    .map(([units, scale]) => ({ units, scale }));

  it('read back what they format', () => {
    fc.assert(
      fc.property(decimal, (value) => {
        const positive = { ...value, units: value.units < 0n ? -value.units : value.units };
        const again = parseDecimal(formatDecimal(positive));
        expect(again && formatDecimal(again)).toBe(formatDecimal(positive));
      }),
    );
  });

  it('add and multiply without any rounding', () => {
    fc.assert(
      fc.property(decimal, decimal, decimal, (a, b, c) => {
        const left = multiply(add(a, b), c);
        const right = add(multiply(a, c), multiply(b, c));
        expect(add(left, { ...right, units: -right.units }).units).toBe(0n);
      }),
    );
  });

  it.each([
    ['0.0000005', 1],
    ['-0.0000005', -1],
    ['0.0000004999', 0],
    ['1e-7', 0],
    ['2.5E-6', 3],
  ])('%s USD rounds to %d', (text, microdollars) => {
    const value = parseDecimal(text);
    expect(value && roundToMicrodollars(value)).toBe(microdollars);
  });

  it.each(['', 'NaN', 'Infinity', '1.2.3', '0x1', '1e999', '--1', '.5'])('refuse %j', (text) => {
    expect(parseDecimal(text)).toBeNull();
  });
});
