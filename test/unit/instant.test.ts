import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseInstant } from '../../src/instant.js';

describe('parseInstant', () => {
  it.each([
    ['2026-11-22T10:00:00Z', '2026-11-22T10:00:00.000000Z'],
    ['2026-11-22t10:00:00z', '2026-11-22T10:00:00.000000Z'],
    ['2026-11-22 10:00:00.5Z', '2026-11-22T10:00:00.500000Z'],
    ['2026-11-22T10:00Z', '2026-11-22T10:00:00.000000Z'],
    ['2026-11-22T10:00:00,123456Z', '2026-11-22T10:00:00.123456Z'],
    ['2026-11-22T10:00:00.000001+00', '2026-11-22T10:00:00.000001Z'],
    ['2026-11-22T10:00:00+0530', '2026-11-22T04:30:00.000000Z'],
    ['2026-11-22T10:00:00-05:00', '2026-11-22T15:00:00.000000Z'],
    ['2026-12-31T23:59:59.999999-00:01', '2027-01-01T00:00:59.999999Z'],
    ['2024-02-29T00:00:00+14:00', '2024-02-28T10:00:00.000000Z'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000000Z'],
    ['0099-01-01T00:00:00Z', '0099-01-01T00:00:00.000000Z'],
    ['9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.999999Z'],
  ])('%s is %s', (text, expected) => {
    expect(parseInstant(text)?.text).toBe(expected);
  });

  it('cuts digits past the microsecond, so that no time moves into the next day', () => {
    expect(parseInstant('2026-11-22T23:59:59.9999999Z')?.text).toBe('2026-11-22T23:59:59.999999Z');
  });

  it.each<[string, unknown]>([
    ['no offset', '2026-11-22T10:00:00'],
    ['a day', '2026-11-22'],
    ['a time zone name', '2026-11-22T10:00:00 Europe/Berlin'],
    ['29 February of a common year', '2025-02-29T00:00:00Z'],
    ['31 April', '2025-04-31T00:00:00Z'],
    ['month 13', '2025-13-01T00:00:00Z'],
    ['day 0', '2025-01-00T00:00:00Z'],
    ['hour 24', '2025-01-01T24:00:00Z'],
    ['a leap second', '2025-06-30T23:59:60Z'],
    ['an offset of 16 hours', '2025-01-01T00:00:00+16:00'],
    ['year 0', '0000-01-01T00:00:00Z'],
    ['before year 1 in UTC', '0001-01-01T00:00:00+01:00'],
    ['after year 9999 in UTC', '9999-12-31T23:59:59-01:00'],
    ['text around it', ' 2025-01-01T00:00:00Z'],
    ['a number', 1_700_000_000_000],
    ['the word now', 'now'],
    ['infinity', 'infinity'],
    ['null', null],
    ['an invalid Date', new Date(Number.NaN)],
    ['a Date before year 1', new Date(-1e15)],
    ['a Date after year 9999', new Date(8e15)],
  ])('refuses %s', (_, value) => {
    expect(parseInstant(value)).toBeNull();
  });

  it('agrees with Date for every instant and offset, and keeps the microseconds', () => {
    const instants = fc.date({
      min: new Date('0001-01-02T00:00:00Z'),
      max: new Date('9999-12-30T00:00:00Z'),
      noInvalidDate: true,
    });
    fc.assert(
      fc.property(
        instants,
        fc.integer({ min: 0, max: 999 }),
        fc.integer({ min: -839, max: 839 }),
        (date, micros, offsetMinutes) => {
          const local = new Date(date.getTime() + offsetMinutes * 60_000).toISOString();
          fc.pre(/^\d{4}-/.test(local));
          const low = String(micros).padStart(3, '0');
          const sign = offsetMinutes < 0 ? '-' : '+';
          const hours = String(Math.floor(Math.abs(offsetMinutes) / 60)).padStart(2, '0');
          const minutes = String(Math.abs(offsetMinutes) % 60).padStart(2, '0');
          const text = `${local.slice(0, -1)}${low}${sign}${hours}:${minutes}`;
          expect(parseInstant(text)).toEqual({
            text: `${date.toISOString().slice(0, -1)}${low}Z`,
            epochMs: date.getTime(),
          });
          expect(parseInstant(date)?.text).toBe(`${date.toISOString().slice(0, -1)}000Z`);
        },
      ),
    );
  });
});
