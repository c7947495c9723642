import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import {
  formatUsd,
  fromMicrodollars,
  toExactInteger,
  toJson,
  toJsonText,
  toMicrodollars,
  toSafeInteger,
  toUsdCents,
} from '../../src/money.js';

const codeOf = (run: () => unknown) => {
  try {
    return run();
  } catch (error) {
    return error instanceof LedgerError ? error.code : error;
  }
};

describe('toMicrodollars', () => {
  it('names the most in USD, which is what was given', () => {
    for (const usd of ['999999999999', '-1e300']) {
      expect(() => toMicrodollars(usd)).toThrow(`at most 9007199254.740991 USD, not ${usd}`);
      expect(codeOf(() => toMicrodollars(usd))).toBe('out_of_range');
    }
  });

  it.each<[number | string, number]>([
    [1, 1_000_000],
    ['1', 1_000_000],
    [' 2.5 ', 2_500_000],
    ['.5', 500_000],
    ['5.', 5_000_000],
    ['+0.000001', 1],
    ['0.0000005', 1],
    ['0.00000049999999999999999999', 0],
    ['-0.0000005', -1],
    ['-0.0000004', 0],
    [-0, 0],
    // 1.005 is a little less in binary; its shortest decimal form is what was meant.
    [1.0000005, 1_000_001],
    [0.1 + 0.2, 300_000],
    [1e-7, 0],
    [5e-7, 1],
    ['1e3', 1_000_000_000],
    ['9007199254.740991', Number.MAX_SAFE_INTEGER],
    ['-9007199254.740991', -Number.MAX_SAFE_INTEGER],
  ])('%s USD is %s', (usd, expected) => {
    expect(toMicrodollars(usd)).toBe(expected);
  });

  it('refuses more digits than any amount has, which take their time', () => {
    expect(toMicrodollars(`0.${'1'.repeat(900)}`)).toBe(111_111);
    for (const digits of [1_000, 4_000_000]) {
      expect(codeOf(() => toMicrodollars(`0.${'1'.repeat(digits)}`))).toBe('invalid_event');
    }
  });

  it.each(['', ' ', '.', '1,5', '1_000', '0x10', 'NaN', 'Infinity', '1e', '--1', '$1', '1e999'])(
    'refuses %j',
    (text) => {
      expect(codeOf(() => toMicrodollars(text))).toBe('invalid_event');
    },
  );

  it.each([Number.NaN, Number.POSITIVE_INFINITY, undefined, null, {}])('refuses %s', (usd) => {
    expect(codeOf(() => toMicrodollars(usd as number))).toBe('invalid_event');
  });

  it('refuses what leaves the safe range, instead of rounding it', () => {
    expect(codeOf(() => toMicrodollars('9007199254.740992'))).toBe('out_of_range');
    expect(codeOf(() => toMicrodollars(1e16))).toBe('out_of_range');
  });

  it('is exact for every decimal of six places, and undone by formatUsd', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), (amount) => {
        expect(toMicrodollars(formatUsd(amount))).toBe(amount === 0 ? 0 : amount);
      }),
    );
  });

  it('is symmetric about zero', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e9, noNaN: true }), (usd) => {
        expect(toMicrodollars(-usd) + toMicrodollars(usd)).toBe(0);
      }),
    );
  });
});

describe('formatUsd', () => {
  it.each<[number | bigint, string]>([
    [0, '0.000000'],
    [1, '0.000001'],
    [-1, '-0.000001'],
    [1_234_567, '1.234567'],
    [-1_000_000, '-1.000000'],
    [9_223_372_036_854_775_807n, '9223372036854.775807'],
  ])('%s is %s', (amount, text) => {
    expect(formatUsd(amount)).toBe(text);
  });
});

describe('fromMicrodollars', () => {
  it('comes back as the same amount', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e15, max: 1e15 }), (amount) => {
        expect(toMicrodollars(fromMicrodollars(amount)) === amount || amount === 0).toBe(true);
      }),
    );
  });
});

describe('toUsdCents', () => {
  it.each<[bigint, bigint, number]>([
    [0n, 3n, 0],
    [14_999n, 3n, 0],
    [15_000n, 3n, 0.01],
    [-14_999n, 3n, 0],
    [-15_000n, 3n, -0.01],
    [5_000n, 1n, 0.01],
    [4_999n, 1n, 0],
    [100_000_000n, 3n, 33.33],
    [200_000_000n, 3n, 66.67],
    [27_670_116_110_564_327_421n, 3n, 9_223_372_036_854.78],
  ])('%s / %s is %s', (amount, divisor, usd) => {
    expect(toUsdCents(amount, divisor)).toBe(usd);
  });

  it('rounds once: never by way of whole microdollars', () => {
    // 14,999.67 a month would be 15,000 microdollars, and then a cent.
    expect(toUsdCents(44_999n, 3n)).toBe(0.01);
    expect(toUsdCents(14_999n, 3n)).toBe(0);
  });

  it('is within half a cent, away from zero at the half', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e12, max: 1e12 }), (amount) => {
        const cents = Math.round(toUsdCents(BigInt(amount), 3n) * 100);
        const difference = Math.abs(cents) * 30_000 - Math.abs(amount);
        expect(difference > -15_000 && difference <= 15_000).toBe(true);
      }),
    );
  });
});

describe('toSafeInteger', () => {
  it('takes what PostgreSQL answers, and never rounds', () => {
    expect(toSafeInteger('9007199254740991')).toBe(Number.MAX_SAFE_INTEGER);
    expect(toSafeInteger(-5n)).toBe(-5);
    expect(Object.is(toSafeInteger('-0'), 0)).toBe(true);
    for (const unsafe of ['9007199254740992', -9007199254740992n, '1.5', 'x', 2 ** 60]) {
      expect(codeOf(() => toSafeInteger(unsafe))).toBe('out_of_range');
    }
  });
});

describe('toExactInteger', () => {
  it.each<[bigint | number | string, number | bigint]>([
    ['0', 0],
    [-5n, -5],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['-9007199254740991', -Number.MAX_SAFE_INTEGER],
    ['9007199254740992', 9007199254740992n],
    ['-9007199254740993', -9007199254740993n],
    ['27670116110564327421', 27670116110564327421n],
  ])('%s is %s', (value, exact) => {
    expect(toExactInteger(value)).toBe(exact);
  });

  it('is no fraction, and no text', () => {
    for (const value of ['1.5', 'x', Number.NaN]) {
      expect(() => toExactInteger(value)).toThrow();
    }
  });
});

describe('toJson and toJsonText', () => {
  const large = 9007199254740993n;
  it.each<[unknown, string]>([
    [
      { cost: 1, rows: [{ cost: -2 }], none: null, absent: undefined },
      '{"cost":1,"rows":[{"cost":-2}],"none":null}',
    ],
    [{ rows: [{ cost: 1 }, { cost: large }] }, '{"rows":[{"cost":1},{"cost":"9007199254740993"}]}'],
    [{ total: { deep: [[large]] } }, '{"total":{"deep":[["9007199254740993"]]}}'],
    [[], '[]'],
  ])('%o is %s', (value, text) => {
    expect(toJsonText(value)).toBe(text);
    expect(JSON.stringify(toJson(value))).toBe(text);
  });

  it('copies nothing that JSON can take as it is', () => {
    const rows = [{ cost: 1 }];
    expect(toJson(rows)).toBe(rows);
  });
});
