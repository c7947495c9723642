import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Group } from '../../src/report/usage/query.js';
import type { UsagePair } from '../../src/report/usage/reportRows.js';
import type { UsageReport } from '../../src/report/usage/usageReport.js';
import { Directory } from '../../src/shards/directory.js';
import type { DirectoryRow } from '../../src/shards/directory.sql.js';
import { mergeReports } from '../../src/shards/mergeReports.js';
import { bucketOf, keyOfPayer, placeBucket, placeBuckets } from '../../src/shards/placement.js';
import { checkStates, type ShardState } from '../../src/shards/registry.js';
import { readShards } from '../../src/shards/shardsFile.js';
import { inForm } from '../support/form.js';

describe('placement', () => {
  it('gives a payer the same bucket for ever', () => {
    const buckets = [
      bucketOf('user:ada'),
      bucketOf('user:'),
      bucketOf('organization:00000000-0000-4000-8000-000000000001'),
      bucketOf('user:ünï'),
    ];
    expect(buckets).toEqual([282, 208, 227, 768]);
  });

  it('gives a bucket the same shard for ever', () => {
    const shards = ['a', 'b', 'c', 'd'];
    const placed = [0, 1, 2, 3, 511, 1023].map((bucket) => placeBucket(bucket, shards));
    expect(placed).toEqual(['b', 'c', 'b', 'd', 'c', 'c']);
  });

  it('does not depend on the order of shards, nor on the case of a UUID', () => {
    expect(placeBuckets(['b', 'a', 'c'])).toEqual(placeBuckets(['c', 'b', 'a']));
    const id = 'ABCDEF00-0000-4000-8000-000000000001';
    expect(keyOfPayer({ organization_id: id })).toBe(
      keyOfPayer({ organization_id: id.toLowerCase() }),
    );
  });

  it('moves to a new shard its part, and nothing else', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.stringMatching(/^[a-z0-9_-]{1,8}$/), { minLength: 2, maxLength: 8 }),
        (names) => {
          const [added, ...before] = names as [string, ...string[]];
          const [old, now] = [placeBuckets(before), placeBuckets(names)];
          const moved = now.filter((shard, bucket) => shard !== old[bucket]);
          expect(moved.every((shard) => shard === added)).toBe(true);
          // Within a half of its share: 1,024 buckets are not so many.
          expect(moved.length * names.length).toBeGreaterThan(512);
          expect(moved.length * names.length).toBeLessThan(1_536);
        },
      ),
      { numRuns: inForm(10, 30) },
    );
  });
});

describe('shards that are named', () => {
  const a = { name: 'a', databaseUrl: 'postgres://x/a' };

  it.each([
    ['no list', { a }, /list of at least one/],
    ['none', [], /list of at least one/],
    ['a name twice', [a, a], /name "a" twice/],
    ['a name with a space', [{ ...a, name: 'a b' }], /1-32 characters/],
    ['no URL', [{ name: 'a', databaseUrl: 'mysql://x' }], /needs a databaseUrl/],
    ['a field that is none', [{ ...a, url: 'x' }], /has "url"/],
    ['a schema that is none', [{ ...a, schema: 'a"b' }], /schema must be/],
    ['a schema of PostgreSQL', [{ ...a, schema: 'pg_x' }], /PostgreSQL itself/],
  ])('%s is refused', (_, shards, problem) => {
    expect(() => readShards(shards)).toThrow(problem);
  });

  const state = (name: string, own: Partial<ShardState> = {}): ShardState => ({
    name,
    identity: name,
    installation_id: 'i',
    shard_name: name,
    has_payers: false,
    registered: name === 'a' ? ['a', 'b'] : [],
    ...own,
  });
  const fresh = { installation_id: null, shard_name: null, registered: [] };

  it.each<[string, ShardState[], RegExp]>([
    ['one database twice', [state('a'), state('b', { identity: 'a' })], /are one database/],
    ['a shard that is another', [state('a'), state('b', { shard_name: 'c' })], /is "c"/],
    [
      'another installation',
      [state('a'), state('b', { installation_id: 'j' })],
      /another installation/,
    ],
    ['a home that is new', [state('a', fresh), state('b')], /home has to be named first/],
    [
      'home as the second',
      [state('a', { registered: [] }), state('b', { registered: ['b'] })],
      /name it first/,
    ],
    [
      'payers of its own',
      [state('a'), state('b', { ...fresh, has_payers: true })],
      /only home may/,
    ],
    ['fewer than there are', [state('a')], /lack b/],
  ])('%s is refused', (_, states, problem) => {
    const names = states.map(({ name }) => name);
    expect(() => checkStates(names, states, true)).toThrow(problem);
  });

  it('shards of one installation, and those that are away, pass', () => {
    checkStates(['a', 'b'], [state('a'), state('b')]);
    checkStates(['a', 'b'], [state('a')]);
    checkStates(['a', 'b', 'c'], [state('a'), state('b'), state('c', fresh)], true);
  });

  it('one that has not joined is not opened', () => {
    expect(() => checkStates(['a', 'b'], [state('a'), state('b', fresh)])).toThrow(/migrate/);
  });
});

describe('reports of several shards', () => {
  const sums = (cost: number) => ({
    cost_microdollars: cost,
    requests: 1,
    errors: 0,
    input_tokens: 0,
    output_tokens: 0,
    cache_hit_tokens: 0,
    cache_write_tokens: 0,
  });
  const report = (rows: UsageReport['rows'], total: number): UsageReport => ({
    from: '2026-01-01',
    until: '2026-01-02',
    zone: 'UTC',
    grain: 'day',
    by: ['model'],
    rows,
    total: sums(total),
    source: { mode: 'rollup', server: 'primary', asOf: '2026-01-02T00:00:00Z' },
  });

  it('are summed by group, the largest apart, in order', () => {
    const day = { start: '2026-01-01' };
    const merged = mergeReports({ top: 1, metric: 'cost' }, [
      report(
        [
          { ...day, model: 'a', ...sums(5) },
          { ...day, model: 'b', ...sums(4) },
        ],
        9,
      ),
      report([{ ...day, model: 'b', ...sums(4) }], 4),
    ]);
    expect(merged.rows).toMatchObject([
      { model: 'b', cost_microdollars: 8, requests: 2 },
      { other: true, cost_microdollars: 5, requests: 1 },
    ]);
    expect(merged.total.cost_microdollars).toBe(13);
  });

  it('a group that a part hides is not told apart with a part of its sum', () => {
    const day = { start: '2026-01-01' };
    const merged = mergeReports({ top: 2, metric: 'cost' }, [
      report(
        [
          { ...day, model: 'a', ...sums(5) },
          { ...day, other: true, ...sums(3) },
        ],
        8,
      ),
      report(
        [
          { ...day, model: 'b', ...sums(9) },
          { ...day, model: 'a', ...sums(1) },
        ],
        10,
      ),
    ]);
    expect(merged.rows).toMatchObject([
      { model: 'a', cost_microdollars: 6 },
      { other: true, cost_microdollars: 12 },
    ]);
  });

  it('pairs are added up, largest first, and those that a part hides are not told apart', () => {
    const pairs = (rows: UsagePair[]) => ({
      ...report([], 0),
      pairs: { by: ['model', 'key'] as [Group, Group], rows },
    });
    const merged = mergeReports({ top: 2, metric: 'cost' }, [
      pairs([
        { model: 'a', api_key_id: 'k', ...sums(5) },
        { model: 'a', api_key_id: null, ...sums(4) },
        { other: true, ...sums(3) },
      ]),
      pairs([
        { model: 'b', api_key_id: 'k', ...sums(9) },
        { model: 'a', api_key_id: null, ...sums(2) },
        { model: 'a', api_key_id: 'k', ...sums(0) },
      ]),
    ]);
    expect(merged.pairs?.rows).toEqual([
      { model: 'a', api_key_id: null, ...sums(6), requests: 2 },
      { model: 'a', api_key_id: 'k', ...sums(5), requests: 2 },
      { other: true, ...sums(12), requests: 2 },
    ]);
  });

  it('of parts that hide nothing are the report of the whole', () => {
    const row = fc.record({
      start: fc.constantFrom('2026-01-01', '2026-01-02'),
      model: fc.constantFrom('a', 'b', 'c', null),
      cost: fc.integer({ min: -5, max: 50 }),
      part: fc.nat(2),
    });
    fc.assert(
      fc.property(fc.array(row, { maxLength: 20 }), fc.integer({ min: 1, max: 5 }), (rows, top) => {
        const parts = [0, 1, 2].map((part) => toReport(rows.filter((each) => each.part === part)));
        const merged = mergeReports({ top, metric: 'cost' }, parts as [UsageReport, UsageReport]);
        expect(merged.total.cost_microdollars).toBe(sumOf(rows));
        // Each period's rows are all that was used in it.
        for (const start of ['2026-01-01', '2026-01-02']) {
          const of = merged.rows.filter((each) => each.start === start);
          const used = rows.filter((each) => each.start === start);
          expect(of.reduce((sum, each) => sum + Number(each.cost_microdollars), 0)).toBe(
            sumOf(used),
          );
          for (const each of of.filter(({ other }) => !other)) {
            expect(each.cost_microdollars).toBe(
              sumOf(used.filter(({ model }) => model === each.model)),
            );
          }
        }
        const apart = new Set(merged.rows.filter(({ other }) => !other).map(({ model }) => model));
        const groups = new Set(rows.map(({ model }) => model));
        expect(apart.size).toBe(Math.min(top, groups.size));
        const smallest = Math.min(
          ...[...apart].map((model) => sumOf(rows.filter((r) => r.model === model))),
        );
        for (const model of [...groups].filter((each) => !apart.has(each))) {
          expect(sumOf(rows.filter((each) => each.model === model))).toBeLessThanOrEqual(smallest);
        }
      }),
    );

    interface Used {
      start: string;
      model: string | null;
      cost: number;
    }
    function sumOf(rows: readonly Used[]): number {
      return rows.reduce((sum, { cost }) => sum + cost, 0);
    }
    function toReport(rows: readonly Used[]): UsageReport {
      const keys = new Map(rows.map(({ start, model }) => [`${start} ${model}`, { start, model }]));
      return report(
        [...keys.values()].map(({ start, model }) => {
          const same = rows.filter((each) => each.start === start && each.model === model);
          return { start, model, ...sums(sumOf(same)) };
        }),
        sumOf(rows),
      );
    }
  });
});

describe('the directory', () => {
  const row = (more: Partial<DirectoryRow> = {}): DirectoryRow => ({
    placing: ['a', 'b'],
    exceptions: [],
    ...more,
  });
  const exception = {
    bucket: null,
    payer_scope: null,
    payer_id: null,
    moving_to: null,
    step: null,
  };

  function open(answer: () => Promise<DirectoryRow>) {
    let readings = 0;
    const query = async () => {
      readings++;
      return [await answer()] as never[];
    };
    const directory = new Directory({ query: async () => query, onError: () => {} });
    return { directory, readings: () => readings };
  }

  it('lets a payer’s row beat its bucket’s, and that the rule', async () => {
    const key = keyOfPayer({ kilo_user_id: 'ada' });
    const bucket = bucketOf(key);
    const ofBucket = { ...exception, bucket, shard: 'c' };
    const ofPayer = { ...exception, payer_scope: 'user' as const, payer_id: 'ada', shard: 'd' };
    let now = row();
    const { directory } = open(async () => now);
    expect(() => directory.find(key)).toThrow(/not been read/);
    await directory.refresh();
    expect(directory.find(key)).toEqual({
      shard: placeBucket(bucket, ['a', 'b']),
      isFenced: false,
    });
    now = row({ exceptions: [ofBucket] });
    await directory.refresh();
    expect(directory.find(key)).toEqual({ shard: 'c', isFenced: false });
    now = row({ exceptions: [ofBucket, { ...ofPayer, moving_to: 'a', step: 'fenced' }] });
    await directory.refresh();
    expect(directory.find(key)).toEqual({ shard: 'd', isFenced: true });
  });

  it('is read once for all who ask while it is being read, and by a reading that began after', async () => {
    let answer: (row: DirectoryRow) => void = () => {};
    const { directory, readings } = open(() => new Promise((resolve) => (answer = resolve)));
    const first = directory.refresh();
    const later = Promise.all(Array.from({ length: 50 }, () => directory.refresh()));
    await new Promise(setImmediate);
    expect(readings()).toBe(1);
    answer(row());
    await first;
    await new Promise(setImmediate);
    expect(readings()).toBe(2);
    answer(row({ placing: ['c'] }));
    await later;
    expect(directory.find('user:ada').shard).toBe('c');
    expect(readings()).toBe(2);
  });

  it('stays what it was while home is away', async () => {
    let isAway = false;
    const { directory } = open(async () => {
      if (isAway) throw new Error('away');
      return row({ placing: ['c'] });
    });
    await directory.refresh();
    isAway = true;
    await expect(directory.refresh()).rejects.toMatchObject({ code: 'unavailable' });
    expect(directory.find('user:ada').shard).toBe('c');
  });
});
