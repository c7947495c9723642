import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chooseTier, describeShare } from '../../src/web/profile/tiers.js';
import { daysOfBalance, forecastMonth, forecastRange } from '../../src/web/usage/forecast.js';
import { toLayers, toOutline } from '../../src/web/usage/layers.js';
import { metricOf } from '../../src/web/usage/metrics.js';
import { createNameOf, tellApart } from '../../src/web/usage/names.js';
import { toPairs } from '../../src/web/usage/pairs.js';
import { boundsOf, labelPeriod, listPeriods, periodOf } from '../../src/web/usage/periods.js';
import {
  defaultGrain,
  grainsOf,
  largestTop,
  presetRange,
  rangeProblem,
} from '../../src/web/usage/ranges.js';
import { keyOf, type Report, toSeries } from '../../src/web/usage/series.js';
import { csvFileName, textCell, toCsv, toPairsCsv } from '../../src/web/usage/usageCsv.js';
import {
  DEFAULT_STATE,
  pairOf,
  readState,
  toReportQuery,
  toScope,
  withinScope,
  writeState,
} from '../../src/web/usage/usageState.js';
import { dayIn, listHours, localTime, startOfDayMs } from '../../src/web/zones.js';
import { inForm } from '../support/form.js';

const sums = (cost: number | string, requests = 1) => ({
  cost_microdollars: cost,
  requests,
  errors: 0,
  input_tokens: 10,
  output_tokens: 2,
  cache_hit_tokens: 0,
  cache_write_tokens: 0,
});

describe('ranges', () => {
  it('are inclusive, and judged before they are asked', () => {
    expect(presetRange('7d', '2026-11-22')).toEqual({ from: '2026-11-16', until: '2026-11-22' });
    expect(presetRange('1m', '2026-10-31').from).toBe('2026-10-01');
    expect(presetRange('1m', '2026-03-30').from).toBe('2026-03-01');
    expect(presetRange('12m', '2026-11-22').from).toBe('2025-12-01');
    expect(rangeProblem({ from: '2026-01-02', until: '2026-01-01' })).toMatch(/swap/);
    expect(rangeProblem({ from: '', until: '2026-01-01' })).toMatch(/both/);
    expect(rangeProblem({ from: '2015-01-01', until: '2026-01-01' })).toMatch(/ten years/);
    expect(rangeProblem({ from: '2014-12-31', until: '2015-01-01' })).toMatch(/2015/);
    expect(rangeProblem({ from: '2026-01-01', until: '2026-01-01' })).toBeNull();
  });

  it('of a month have the month so far, and a forecast never asks again for them', () => {
    for (let day = '2024-01-01'; day < '2026-01-01'; day = presetNext(day)) {
      const shown = presetRange('1m', day);
      expect([day, shown.from <= forecastRange(day).from]).toEqual([day, true]);
    }
  });

  it('have the grains and groups that one answer holds', () => {
    const year = { from: '2025-11-23', until: '2026-11-22' };
    expect(grainsOf(year)).toEqual(['day', 'week', 'month']);
    expect([defaultGrain(year), defaultGrain({ from: year.until, until: year.until })]).toEqual([
      'week',
      'hour',
    ]);
    expect(largestTop({ from: '2026-08-22', until: '2026-11-22' }, 'hour')).toBe(10);
    expect(largestTop(year, 'week')).toBe(50);
  });
});

const presetNext = (day: string) =>
  new Date(Date.parse(day) + 86_400_000).toISOString().slice(0, 10);

/** Clocks go from one o'clock back to midnight. */
const MIDNIGHTS_TWICE: [string, number][] = (
  [
    ['Asia/Hebron', '2018-10-27'],
    ['America/Havana', '2026-11-01'],
    ['Atlantic/Azores', '2026-10-25'],
  ] as const
).map(([zone, day]) => [zone, Date.parse(day) / 86_400_000]);

describe('zones', () => {
  it('know days and hours where clocks change', () => {
    expect(listHours('2026-03-29', '2026-03-29', 'Europe/Berlin')).toHaveLength(23);
    const autumn = listHours('2026-10-25', '2026-10-25', 'Europe/Berlin');
    expect(autumn).toHaveLength(25);
    expect(autumn.slice(2, 4)).toEqual(['2026-10-25T02:00:00+02:00', '2026-10-25T02:00:00+01:00']);
    expect(listHours('2026-11-22', '2026-11-22', 'Asia/Kathmandu')[0]).toBe(
      '2026-11-22T00:00:00+05:45',
    );
    expect(localTime(Date.parse('2026-11-22T23:30:00Z'), 'Asia/Kolkata')).toBe(
      '2026-11-23T05:00:00',
    );
  });

  it('begin a day where its first instant is, in every zone of this machine', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...Intl.supportedValuesOf('timeZone')),
        fc.integer({ min: 16_500, max: 21_500 }),
        (zone, epochDay) => {
          const day = new Date(epochDay * 86_400_000).toISOString().slice(0, 10);
          const startMs = startOfDayMs(day, zone);
          // A day that a zone skipped, going over the date line, has none.
          if (dayIn(startMs, zone) !== day) return;
          expect([zone, day, dayIn(startMs - 1_000, zone) < day]).toEqual([zone, day, true]);
        },
      ),
      { numRuns: inForm(150, 400), examples: MIDNIGHTS_TWICE },
    );
  });
});

describe('periods', () => {
  it('are named as the report names them, and bounded by the range', () => {
    const range = { from: '2026-11-18', until: '2026-12-02' };
    expect(listPeriods(range, 'week', 'UTC')).toEqual(['2026-11-16', '2026-11-23', '2026-11-30']);
    expect(periodOf(Date.parse('2026-11-22T23:30:00Z'), 'day', 'Europe/Berlin')).toBe('2026-11-23');
    const bounds = boundsOf('2026-11-16', 'week', 'UTC', range);
    expect([bounds.fromMs, bounds.untilMs]).toEqual([
      Date.parse('2026-11-18T00:00:00Z'),
      Date.parse('2026-11-23T00:00:00Z'),
    ]);
  });

  it('have their year on the axis where more than one is shown', () => {
    expect(labelPeriod('2026-01-01', 'day', '2025-12-04', false)).toBe('1 Jan 2026');
    expect(labelPeriod('2026-01-29', 'day', '2026-01-01', false)).toBe('29 Jan');
    expect(labelPeriod('2026-01-29', 'day', null, true)).toBe('29 Jan');
    expect(labelPeriod('2026-01-01', 'month', '2025-11-01', false)).toBe('Jan 2026');
  });
});

const report: Report = {
  from: '2026-11-20',
  until: '2026-11-22',
  zone: 'UTC',
  grain: 'day',
  by: ['model'],
  rows: [
    { start: '2026-11-20', model: 'a', ...sums(1_500_001) },
    { start: '2026-11-20', model: null, ...sums('9007199254740993') },
    { start: '2026-11-22', model: 'a', ...sums(-1) },
    { start: '2026-11-22', other: true, ...sums(7) },
  ],
  total: sums('9007199256241000', 4),
  source: { mode: 'rollup', server: 'primary', asOf: '2026-11-22T10:00:00Z' },
};
const nowMs = Date.parse('2026-11-22T10:00:00Z');
const series = toSeries(report, nowMs, (of) => metricOf(of, 'cost'));

describe('a series', () => {
  it('has every period, groups by size with other last, and exact sums past 2^53', () => {
    expect(series.periods.map(({ start }) => start)).toEqual([
      '2026-11-20',
      '2026-11-21',
      '2026-11-22',
    ]);
    expect(series.groups.map(({ id, isOther }) => [id, isOther])).toEqual([
      [null, false],
      ['a', false],
      [null, true],
    ]);
    expect(series.periods[0]?.sums.cost_microdollars).toBe(9_007_199_256_240_994n);
    expect(series.total.cost_microdollars).toBe(9_007_199_256_241_000n);
    expect(series.periods.map(({ isUnfinished }) => isUnfinished)).toEqual([false, false, true]);
  });

  it('keeps what the server counts in a period that this calendar does not know', () => {
    const odd = { start: '2026-11-20T10:30:00+05:45', model: 'a', ...sums(1) };
    const strange = toSeries({ ...report, grain: 'hour', rows: [odd] }, nowMs, (of) =>
      metricOf(of, 'cost'),
    );
    const found = strange.periods.find(({ start }) => start === odd.start);
    expect(found?.sums.cost_microdollars).toBe(1n);
  });

  it('takes no name for the lack of one, nor for the rest', () => {
    const groups = [
      { id: null, isOther: false },
      { id: 'null', isOther: false },
      { id: '', isOther: false },
      { id: 'Other', isOther: false },
      { id: null, isOther: true },
    ];
    expect(new Set(groups.map(keyOf)).size).toBe(groups.length);
    const rows = ['null', null, ''].map((model, index) => ({
      start: '2026-11-20',
      model,
      ...sums(index + 1),
    }));
    const odd = toSeries({ ...report, rows }, nowMs, (of) => metricOf(of, 'cost'));
    expect(
      odd.groups.map(({ id, sums: { cost_microdollars } }) => [id, cost_microdollars]),
    ).toEqual([
      ['', 3n],
      [null, 2n],
      ['null', 1n],
    ]);
  });

  it('is stacked in eight colours, the rest as other', () => {
    const rows = Array.from({ length: 12 }, (_, index) => ({
      start: '2026-11-20',
      model: `m${index}`,
      ...sums(100 - index),
    }));
    const many = toSeries({ ...report, rows }, nowMs, (of) => metricOf(of, 'cost'));
    const layers = toLayers(many, 'cost');
    expect(layers.map(({ className }) => className).at(-1)).toBe('layer-other');
    expect(layers).toHaveLength(9);
    expect(layers.at(-1)?.values[0]).toBe(92 + 91 + 90 + 89);
  });

  it('has the days before beside its own, and no outline where there was nothing', () => {
    expect(toOutline(series, 'cost')).toBeNull();
    const previous = {
      from: '2026-11-17',
      until: '2026-11-19',
      rows: [{ start: '2026-11-21', ...sums(40) }],
      total: sums(40),
    };
    const compared = toSeries({ ...report, previous }, nowMs, (of) => metricOf(of, 'cost'));
    expect(toOutline(compared, 'cost')).toEqual([0, 40, 0]);
    expect(toOutline(compared, 'requests')).toEqual([0, 1, 0]);
    expect(compared.total).toEqual(series.total);
    const nothing = { ...previous, rows: [], total: sums(0, 0) };
    const empty = toSeries({ ...report, previous: nothing }, nowMs, (of) => metricOf(of, 'cost'));
    expect(toOutline(empty, 'cost')).toBeNull();
  });
});

describe('the CSV', () => {
  it("has every period and group of the chart and ends in the chart's total", () => {
    const text = toCsv(series, {
      scope: 'Personal',
      nameOf: ({ id, isOther }) => (isOther ? 'Other' : (id ?? 'none')),
    });
    expect(text).toBe(
      [
        'start_utc,scope,model,cost_microdollars,cost_usd,requests,errors,input_tokens,output_tokens,cache_hit_tokens,cache_write_tokens',
        '2026-11-20,Personal,none,9007199254740993,9007199254.740993,1,0,10,2,0,0',
        '2026-11-20,Personal,a,1500001,1.500001,1,0,10,2,0,0',
        '2026-11-21,Personal,,0,0.000000,0,0,0,0,0,0',
        '2026-11-22,Personal,a,-1,-0.000001,1,0,10,2,0,0',
        '2026-11-22,Personal,Other,7,0.000007,1,0,10,2,0,0',
        'total,Personal,,9007199256241000,9007199256.241000,4,0,10,2,0,0',
        '',
      ].join('\r\n'),
    );
    expect(csvFileName(series)).toBe('microdollar-usage_2026-11-20_2026-11-22_day_model.csv');
  });

  it('has what it is compared with in columns of its own, each adding up to its total', () => {
    const previous = {
      from: '2026-11-17',
      until: '2026-11-19',
      rows: [
        { start: '2026-11-21', ...sums(40) },
        { start: '2026-11-22', ...sums(2) },
      ],
      total: sums(42, 2),
    };
    const compared = { ...report, previous };
    const nameOf = ({ id, isOther }: { id: string | null; isOther: boolean }) =>
      isOther ? 'Other' : (id ?? 'none');
    for (const by of [report.by, []]) {
      const rows = by.length > 0 ? report.rows : [{ start: '2026-11-20', ...sums(5) }];
      const total = by.length > 0 ? report.total : sums(5);
      const made = toSeries({ ...compared, by, rows, total }, nowMs, (of) => metricOf(of, 'cost'));
      const [header = '', ...lines] = toCsv(made, { scope: 'Personal', nameOf })
        .trimEnd()
        .split('\r\n');
      const names = header.split(',');
      expect(names.slice(-2)).toEqual(['previous_cache_hit_tokens', 'previous_cache_write_tokens']);
      const cells = lines.map((line) => line.split(','));
      for (const name of names.filter((each) => /(cost_microdollars|requests)$/.test(each))) {
        const column = cells.map((line) => BigInt(line[names.indexOf(name)] ?? ''));
        const sum = column.slice(0, -1).reduce((a, b) => a + b, 0n);
        if (name !== 'requests') expect([name, sum]).toEqual([name, column.at(-1)]);
      }
      const before = names.indexOf('previous_cost_microdollars');
      const had = cells.filter((line) => line[before] !== '0').map((line) => line[0]);
      expect(had).toEqual(['2026-11-21', '2026-11-22', 'total']);
    }
    expect(
      toCsv(
        toSeries(compared, nowMs, (of) => metricOf(of, 'cost')),
        { scope: 'P', nameOf },
      ).split('\r\n')[6],
    ).toBe('2026-11-22,P,,0,0.000000,0,0,0,0,0,0,2,0.000002,1,0,10,2,0,0');
  });

  it('cannot carry a formula into a spreadsheet', () => {
    for (const text of [
      '=cmd|x',
      '+1',
      '-1',
      '@sum',
      '\t=1',
      '\r=1',
      '\n=1',
      '\uff1d1',
      '\uff0b1',
    ]) {
      expect(textCell(text).replace(/^"/, '').startsWith("'")).toBe(true);
    }
    expect(textCell('a "b", c')).toBe('"a ""b"", c"');
    expect(textCell('Acme')).toBe('Acme');
  });
});

it('names that several have are told apart, what is listed twice is itself', () => {
  const key = (id: string, name: string) => ({ id, name, hint: `md_${id}…` });
  const names = tellApart([key('a', 'work'), key('b', 'work'), key('d', 'ci'), key('d', 'ci')]);
  expect([...names]).toEqual([
    ['a', 'work (md_a…)'],
    ['b', 'work (md_b…)'],
    ['d', 'ci'],
  ]);
  const nameOf = createNameOf(names, new Map([['u1', 'Ada']]));
  const called = (by: 'key' | 'member', id: string | null) => nameOf(by, { id, isOther: false });
  expect(called('key', 'a')).toBe('work (md_a…)');
  expect(called('key', '0b5e7c1a-gone')).toBe('key 0b5e7c1a…');
  expect([called('member', 'u1'), called('member', 'u2')]).toEqual(['Ada', 'u2']);
  expect(called('member', null)).toBe('no member known');
});

describe('pairs of groups', () => {
  const pairs = toPairs({
    by: ['model', 'key'],
    rows: [
      { model: 'a', api_key_id: 'k', ...sums('9007199254740993') },
      { model: 'a', api_key_id: null, ...sums(6) },
      { model: null, api_key_id: null, ...sums(3) },
      { other: true, ...sums(100) },
    ],
  });

  it('are those of the report, none mistaken for another', () => {
    expect(
      pairs.map(({ ids, isOther, sums: { cost_microdollars } }) => [
        ...ids,
        isOther,
        cost_microdollars,
      ]),
    ).toEqual([
      ['a', 'k', false, 9_007_199_254_740_993n],
      ['a', null, false, 6n],
      [null, null, false, 3n],
      [null, null, true, 100n],
    ]);
  });

  it('are exported as they are shown, with a total, and no formula in a name', () => {
    const rows = pairs.slice(0, 2).map((pair) => ({ ...pair, names: ['=a', 'b,c'] as const }));
    const [header, first, , total] = toPairsCsv(['model', 'key'], rows, series.total).split('\r\n');
    expect(header).toMatch(/^model,key,cost_microdollars,cost_usd,requests,errors,/);
    expect(first).toMatch(/^'=a,"b,c",9007199254740993,9007199254\.740993,1,/);
    expect(total).toMatch(/^total,,9007199256241000,/);
  });
});

describe('the state in the URL', () => {
  it('begins the list of requests anew where other requests are shown', () => {
    const at = 'rafter=2026-11-10T00:00:00.000000Z%2Fx&rmodel=gpt';
    const changed = (change: Partial<typeof DEFAULT_STATE>) =>
      writeState(new URLSearchParams(at), { ...DEFAULT_STATE, ...change });
    for (const change of [
      { scope: 'personal' },
      { preset: 'day' },
      { zone: 'Europe/Berlin' },
      { at: '2026-11-20' },
      { key: '0b5e7c1a-0000-4000-8000-000000000000' },
      { member: 'ada' },
    ] as const) {
      expect([change, changed(change).get('rafter')]).toEqual([change, null]);
      expect(changed(change).get('rmodel')).toBe('gpt');
    }
    for (const change of [{}, { by: 'key' }, { form: 'table' }, { metric: 'requests' }] as const) {
      expect(changed(change).get('rafter')).toMatch(/^2026-11-10/);
    }
  });

  it('is read as it was written, and leaves what is not its own', () => {
    const state = {
      ...DEFAULT_STATE,
      scope: '00000000-0000-4000-8000-000000000001',
      by: 'key' as const,
      andBy: 'model' as const,
      metric: 'tokens' as const,
      preset: 'custom' as const,
      from: '2026-01-01',
      until: '2026-02-01',
      grain: 'week' as const,
      zone: 'Asia/Kolkata',
      isCompared: false,
      form: 'table' as const,
      at: '2026-01-05',
      key: '00000000-0000-4000-8000-00000000000a',
      member: 'm',
      top: 50,
    };
    const search = writeState(new URLSearchParams('user=ada'), state);
    expect(search.get('user')).toBe('ada');
    expect(readState(search)).toEqual(state);
    expect(String(writeState(search, DEFAULT_STATE))).toBe('user=ada');
  });

  it('takes what it does not understand for absent', () => {
    const search = new URLSearchParams(
      'by=x&metric=y&range=z&grain=q&zone=Mars/Base&top=9e9&form=z&scope=acme&key=k',
    );
    expect(readState(search)).toEqual(DEFAULT_STATE);
  });

  it('is about every scope of the user, unless it says otherwise', () => {
    const scopeOf = (search: string) =>
      toScope(readState(new URLSearchParams(search)), 'ada', false);
    expect(scopeOf('')).toEqual({ kilo_user_id: 'ada', all_scopes: true });
    expect(scopeOf('scope=personal')).toEqual({ kilo_user_id: 'ada' });
  });

  it('leaves out what its scope has not, and says so', () => {
    const within = (search: string) => withinScope(readState(new URLSearchParams(search)));
    const organization = 'scope=00000000-0000-4000-8000-000000000001';
    for (const fine of ['', 'by=key', `${organization}&by=member&member=ada`]) {
      expect(within(fine)).toEqual({ state: readState(new URLSearchParams(fine)), remark: null });
    }
    for (const odd of ['by=member', 'scope=personal&by=member', 'member=ada&by=none']) {
      const { state, remark } = within(odd);
      expect([state.member, state.by === 'member']).toEqual([null, false]);
      expect(remark).toMatch(/organization/);
    }
  });

  it('names a second group only beside a first one, and no group twice', () => {
    const pairIn = (search: string) => pairOf(readState(new URLSearchParams(search)));
    expect(pairIn('')).toBeNull();
    expect(pairIn('and=key')).toEqual(['model', 'key']);
    expect(pairIn('by=key&and=key')).toBeNull();
    expect(pairIn('by=none&and=key')).toBeNull();
    const range = { from: '2026-01-01', until: '2026-03-31' };
    const state = readState(new URLSearchParams('by=key&and=project&top=50&range=3m&grain=hour'));
    expect(toReportQuery(state, range)).toMatchObject({
      by: ['key'],
      and_by: 'project',
      grain: 'hour',
    });
    const single = readState(new URLSearchParams('by=key&range=3m'));
    expect(toReportQuery(single, range)).not.toHaveProperty('and_by');
    const alone = withinScope(readState(new URLSearchParams('by=key&and=member')));
    expect([alone.state.by, alone.state.andBy]).toEqual(['key', 'none']);
    expect(alone.remark).toMatch(/organization/);
  });

  it('asks for no grain or groups that the range does not allow', () => {
    const range = { from: '2020-01-01', until: '2026-01-01' };
    const query = toReportQuery({ ...DEFAULT_STATE, grain: 'hour', top: 50 }, range);
    expect(query.grain).toBe('month');
    const hours = { from: '2026-01-01', until: '2026-03-31' };
    expect(toReportQuery({ ...DEFAULT_STATE, grain: 'hour', top: 50 }, hours).top).toBe(10);
  });
});

describe('the forecast of a month', () => {
  const costs = (entries: [string, bigint][]) => new Map(entries);

  it('adds the mean of seven whole days for each day left', () => {
    const week = Array.from({ length: 7 }, (_, index): [string, bigint] => [
      `2026-11-${15 + index}`,
      700n,
    ]);
    const forecast = forecastMonth(costs([...week, ['2026-11-22', 100n]]), '2026-11-22');
    expect(forecast).toMatchObject({
      spentMicrodollars: 5_000n,
      burnMicrodollarsPerDay: 700n,
      daysLeft: 8,
      // Today at least at the mean.
      expectedMicrodollars: 4_900n + 9n * 700n,
    });
    const busy = forecastMonth(costs([...week, ['2026-11-22', 5_000n]]), '2026-11-22');
    expect(busy.expectedMicrodollars).toBe(4_900n + 5_000n + 8n * 700n);
  });

  it('reaches into the month before, and is what was spent on the last day', () => {
    expect(forecastRange('2026-11-03')).toEqual({ from: '2026-10-27', until: '2026-11-03' });
    const forecast = forecastMonth(costs([['2026-10-31', 70n]]), '2026-11-01');
    expect([forecast.spentMicrodollars, forecast.burnMicrodollarsPerDay]).toEqual([0n, 10n]);
    expect(forecast.expectedMicrodollars).toBe(300n);
    const last = forecastMonth(costs([['2026-11-30', 5n]]), '2026-11-30');
    expect([last.daysLeft, last.expectedMicrodollars]).toEqual([0, 5n]);
  });

  it('tells how long a balance lasts only where something burns', () => {
    expect(daysOfBalance(1_000n, 300n)).toBe(3);
    expect([daysOfBalance(1_000n, 0n), daysOfBalance(1_000n, -5n)]).toEqual([null, null]);
    expect(daysOfBalance(-1n, 5n)).toBeNull();
  });
});

describe('tiers', () => {
  const tiers = [19, 49, 199];
  const choose = (average: number) => chooseTier(average, tiers);

  it('are chosen by what covers the average, and say so truly', () => {
    expect([0.01, 19, 19.01, 49, 49.01, 199].map((average) => choose(average).tierUsd)).toEqual([
      19, 19, 49, 49, 199, 199,
    ]);
    expect(choose(199.01)).toEqual({ tierUsd: 199, fit: 'above' });
    expect(choose(3e9)).toEqual({ tierUsd: 199, fit: 'above' });
    expect(choose(0)).toEqual({ tierUsd: 49, fit: 'start' });
    expect(choose(-1.67)).toEqual({ tierUsd: null, fit: 'none' });
    expect(chooseTier(7, [5])).toEqual({ tierUsd: 5, fit: 'above' });
  });

  it('tell how much of each the average takes', () => {
    const share = (average: number) => describeShare(average, 49, (usd) => `$${usd}`);
    expect([-3, 0, 0.01, 24.5, 49, 50].map(share)).toEqual([
      'none of it',
      'none of it',
      'less than 1% of it',
      '50% of it',
      '100% of it',
      '$1 over',
    ]);
  });
});
