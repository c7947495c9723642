import { describe, expect, it } from 'vitest';
import { periodsOf } from '../../src/report/usage/periods.js';
import { readReportQuery, type UsageReportQuery } from '../../src/report/usage/query.js';

const second = (instant: string) => Date.parse(instant) / 1_000;
const query = (asked: Partial<UsageReportQuery>) =>
  readReportQuery({ kilo_user_id: 'u', from: '2026-11-10', until: '2026-11-12', ...asked });

describe('periods of the entries that a client sums', () => {
  it.each([
    ['hour', '2026-11-11T10:45:00Z', '2026-11-11T10:00:00Z'],
    ['day', '2026-11-11T10:45:00Z', '2026-11-11T00:00:00Z'],
    // A Wednesday, of the week that begins before the range.
    ['week', '2026-11-11T10:45:00Z', '2026-11-09T00:00:00Z'],
    ['week', '2026-11-09T00:00:00Z', '2026-11-09T00:00:00Z'],
  ] as const)('by %s in UTC are multiples of it: %s is in %s', (grain, at, start) => {
    const told = { source: 'quarters', form: 'rows', rows: [] } as const;
    expect(periodsOf(query({ grain }), told, false)(second(at))).toBe(second(start));
    // Three days before stand beside them.
    const earlier = second(at) - 3 * 86_400;
    expect(periodsOf(query({ grain }), told, true)(earlier)).toBe(second(start));
  });

  it('elsewhere are looked up in the calendar, in whatever order they come', () => {
    const ats = ['2026-11-09T23:00Z', '2026-11-10T23:00Z', '2026-11-11T23:00Z'].map(second);
    const starts = ['2026-11-10', '2026-11-11', '2026-11-12'].map(second);
    const rows = [{ ats: `{${ats}}`, starts: `{${starts}}` }];
    const zone = 'Europe/Berlin';
    const of = periodsOf(query({ zone }), { source: 'raw', form: 'rows', rows }, false);
    const asked = [2, 0, 1, 2, 1, 0, 0, 2];
    for (const within of [0, 86_399]) {
      expect(asked.map((index) => of((ats[index] as number) + within))).toEqual(
        asked.map((index) => starts[index]),
      );
    }
    // A day of UTC is where its noon is.
    const days = periodsOf(query({ zone }), { source: 'days', form: 'rows', rows }, false);
    expect(asked.map((index) => days(starts[index] as number))).toEqual(
      asked.map((index) => starts[index]),
    );
  });

  it('are told as they are where the server has summed', () => {
    const of = periodsOf(query({}), { source: 'days', form: 'sums', rows: [] }, true);
    expect(of(second('2026-11-11T10:45:00Z'))).toBe(second('2026-11-11T10:45:00Z'));
  });
});
