import { describe, expect, test } from 'vitest';
import { atRate } from '../../bench/lib/openLoop.js';
import { eventSource } from '../../bench/lib/population.js';
import { seededRandom, zipf } from '../../bench/lib/random.js';
import { isReached, median, quantile, ratiosPerRound } from '../../bench/lib/statistics.js';
import { orderOf } from '../../bench/scenarios/gatewayWays.js';
import { SCENARIOS } from '../../bench/scenarios/index.js';

describe('statistics', () => {
  test('a median of an even number of values lies between the middle two', () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([9, 1, 5])).toBe(5);
    expect(median([])).toBeNaN();
  });

  test('a quantile is one of the values (nearest rank)', () => {
    const values = Array.from({ length: 100 }, (_, index) => index + 1);
    expect(quantile(values, 0.5)).toBe(50);
    expect(quantile(values, 0.99)).toBe(99);
    expect(quantile(values, 1)).toBe(100);
    expect(quantile([7], 0.99)).toBe(7);
  });

  test('ratios pair what ran in the same round', () => {
    expect(ratiosPerRound([10, 20, 30], [5, 4])).toEqual([2, 5]);
  });

  test.each([
    { ratios: [4, 4.5, 9], target: { atLeast: 4.5 }, reached: true },
    { ratios: [4, 4.4, 9], target: { atLeast: 4.5 }, reached: false },
    { ratios: [3], target: { atMost: 3 }, reached: true },
    { ratios: [3.1], target: { atMost: 3 }, reached: false },
    { ratios: [3.1], target: null, reached: null },
  ])('$ratios against $target: $reached', ({ ratios, target, reached }) => {
    const comparison = { subject: 'a', baseline: 'b', measure: 'c', ratios, target };
    expect(isReached(comparison)).toBe(reached);
  });
});

describe('turns', () => {
  test.each([3, 4])('each of %d ways is at each place of a round once', (count) => {
    const rounds = Array.from({ length: count }, (_, round) => orderOf(round, count));
    const all = Array.from({ length: count }, (_, index) => index);
    for (const order of rounds) expect(order.toSorted()).toEqual(all);
    for (const place of all) {
      expect(rounds.map((order) => order[place] as number).toSorted()).toEqual(all);
    }
  });

  test('none of four ways is twice behind the same', () => {
    const pairs = [0, 1, 2, 3].flatMap((round) => {
      const order = orderOf(round, 4);
      return order.slice(1).map((way, index) => `${order[index]} ${way}`);
    });
    expect(new Set(pairs).size).toBe(12);
  });
});

describe('populations', () => {
  test('the same seed draws the same users; ids are new', () => {
    const population = {
      users: 1_000,
      draw: (random: () => number) => () => Math.floor(random() * 1_000),
    };
    const [first, second] = [eventSource(population, 5), eventSource(population, 5)];
    for (let index = 0; index < 20; index++) {
      const [a, b] = [first(), second()];
      expect(a.kilo_user_id).toBe(b.kilo_user_id);
      expect(a.cost).toBe(b.cost);
      expect(a.id).not.toBe(b.id);
    }
  });

  test('Zipf: rank r is drawn with weight 1 / (r + 1)', () => {
    const draw = zipf(100, 1, seededRandom(3));
    const counts = new Array<number>(100).fill(0);
    for (let index = 0; index < 100_000; index++) {
      const rank = draw();
      counts[rank] = (counts[rank] ?? 0) + 1;
    }
    const total = Array.from({ length: 100 }, (_, rank) => 1 / (rank + 1)).reduce((a, b) => a + b);
    expect((counts[0] as number) / 100_000).toBeCloseTo(1 / total, 1);
    expect((counts[0] as number) / (counts[9] as number)).toBeGreaterThan(7);
    expect(counts.reduce((a, b) => a + b)).toBe(100_000);
  });
});

test('calls at a rate do not wait for one another, and failures are told', async () => {
  let inFlight = 0;
  let most = 0;
  let calls = 0;
  const { timesMs, failures } = await atRate(200, 100, async () => {
    const mine = calls++;
    most = Math.max(most, ++inFlight);
    await new Promise((resolve) => setTimeout(resolve, 50));
    inFlight--;
    if (mine === 3) throw new Error('refused');
  });
  expect(calls).toBe(20);
  expect(timesMs).toHaveLength(19);
  expect(failures).toEqual(['refused']);
  expect(most).toBeGreaterThan(1);
});

test('scenarios have distinct names, and say what they ask and do', () => {
  const names = SCENARIOS.map((scenario) => scenario.name);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, title, question, workload, baseline } of SCENARIOS) {
    expect(name).toMatch(/^[a-z0-9-]+$/);
    for (const told of [title, question, workload, baseline]) expect(told).not.toBe('');
  }
});
