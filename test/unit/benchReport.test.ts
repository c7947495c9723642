import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { renderBarChart } from '../../bench/lib/report/barChart.js';
import { renderLineChart } from '../../bench/lib/report/lineChart.js';
import { CHART_DIRECTORY, renderReport } from '../../bench/lib/report/renderReport.js';
import { ticksUpTo } from '../../bench/lib/report/svg.js';
import { winnersOf } from '../../bench/lib/report/verdicts.js';
import { orderedResults } from '../../bench/lib/report/writeReport.js';
import { type Result, toJson } from '../../bench/lib/results.js';
import type { ApproachFigures, Comparison } from '../../bench/lib/scenario.js';

const DOCS = fileURLToPath(new URL('../../docs', import.meta.url));

function figures(name: string, changes: Partial<ApproachFigures>): ApproachFigures {
  return {
    name,
    label: name,
    kind: 'alternative',
    caveat: '',
    callers: 32,
    eventsPerCall: 1,
    sliceSeconds: 1.5,
    eventsPerSecond: [1_000, 1_100, 900],
    settledEventsPerSecond: [1_000, 1_100, 900],
    latencyMs: { p50: 1, p99: 2, max: 3 },
    notes: {},
    ...changes,
  };
}

function resultWith(findings: Partial<Result['findings']>): Result {
  return {
    scenario: {
      name: 'example',
      title: 'An example',
      question: 'Is it\n fast?',
      workload: 'Some.',
      baseline: 'None.',
    },
    startedAt: '2026-11-23T08:00:00.000Z',
    durationSeconds: 12,
    quick: false,
    seconds: null,
    idleBefore: 0.98,
    environment: {
      microdollar: '0.1.0',
      commit: 'abcdef0123',
      postgres: '18.1',
      node: '20.19.0',
      platform: 'linux x64',
      cores: 2,
      cpu: 'a processor',
      memoryGiB: 24,
      settings: { fsync: 'on' },
      commitMs: 0.34,
    },
    findings: { checks: [{ name: 'exact', ok: true, detail: '3 events' }], ...findings },
  };
}

const comparison = (changes: Partial<Comparison>): Comparison => ({
  subject: 'ours',
  baseline: 'theirs',
  measure: 'events/s',
  ratios: [4, 5, 6],
  target: { atLeast: 4.5 },
  ...changes,
});

describe('the report', () => {
  test('says which targets are reached and which are not, by the median', () => {
    const { markdown } = renderReport([
      resultWith({
        comparisons: [
          comparison({}),
          comparison({ ratios: [4, 4.4, 9] }),
          comparison({ ratios: [3.1], target: { atMost: 3 } }),
        ],
      }),
    ]);
    expect(markdown).toContain('1 of 3 targets are reached, 2 are not.');
    expect(markdown).toContain('| at least 4.5x | 5x | 4 - 6 | reached |');
    expect(markdown).toContain('| at least 4.5x | 4.4x | 4 - 9 | **not reached** |');
    expect(markdown).toContain('| at most 3x | 3.1x |  | **not reached** |');
  });

  test('shows a check that failed', () => {
    const checks = [{ name: 'exact', ok: false, detail: 'one row missing' }];
    const { markdown } = renderReport([resultWith({ checks })]);
    expect(markdown).toContain('- **fails**: exact (one row missing)');
  });

  test('names an alternative that is faster in the same shape, and its price', () => {
    const ours = figures('ours', { kind: 'ours', eventsPerSecond: [500] });
    const grouped = figures('ours-group-commit', { kind: 'ours', eventsPerSecond: [9_000] });
    const slots = figures('slots', { caveat: 'many rows' });
    const copy = figures('copy', { kind: 'limit', eventsPerCall: 500, eventsPerSecond: [18_000] });
    const slower = figures('slower', { eventsPerSecond: [400] });
    const result = resultWith({ throughput: [ours, grouped, slots, copy, slower] });
    expect(winnersOf(result)).toMatchObject([
      { winner: 'slots', loser: 'ours', factor: 2, price: 'many rows', groupCommitFactor: 9 },
      { winner: 'copy', loser: 'ours-group-commit', factor: 2, groupCommitFactor: null },
    ]);
    expect(renderReport([result]).markdown).toContain(
      '| An example | slots | ours | 2x | many rows | 9x |',
    );
  });

  test('admits that the machine was busy, and that a run was short', () => {
    const calm = renderReport([resultWith({})]).markdown;
    expect(calm).not.toMatch(/busy|shortened/);
    const busy = renderReport([{ ...resultWith({}), idleBefore: 0.4, seconds: 2 }]).markdown;
    expect(busy).toContain('40% idle before it began');
    expect(busy).toContain('A shortened run (`--seconds 2`)');
  });

  test('links every chart that it renders', () => {
    const bars = [{ label: 'a', kind: 'ours' as const, value: 3, low: 1, high: 5 }];
    const { markdown, charts } = renderReport([
      resultWith({ charts: [{ type: 'bar', name: 'rate', title: 'Rate', unit: 'x', bars }] }),
    ]);
    expect([...charts.keys()]).toEqual(['example-rate.svg']);
    expect(markdown).toContain(`![Rate](${CHART_DIRECTORY}/example-rate.svg)`);
  });

  test('as committed, quotes the committed results and nothing else', () => {
    const results = orderedResults();
    const { markdown, charts } = renderReport(results);
    expect(readFileSync(`${DOCS}/benchmarks.md`, 'utf8')).toBe(markdown);
    for (const [name, svg] of charts) {
      expect(existsSync(`${DOCS}/${CHART_DIRECTORY}/${name}`), name).toBe(true);
      expect(readFileSync(`${DOCS}/${CHART_DIRECTORY}/${name}`, 'utf8')).toBe(svg);
    }
    expect(results.filter((result) => result.quick)).toEqual([]);
  });
});

describe('charts', () => {
  test('a bar is as long as its value, on an axis of round numbers', () => {
    const bar = (value: number) => ({ label: 'b', kind: 'ours' as const, value, low: 0, high: 0 });
    const bars = [bar(100), bar(50)];
    const svg = renderBarChart({ type: 'bar', name: 'b', title: 'Bars', unit: 'x', bars });
    const widths = [...svg.matchAll(/<rect x="\d+" y="[\d.]+" width="([\d.]+)"/g)].map((found) =>
      Number(found[1]),
    );
    expect(widths).toHaveLength(2);
    expect((widths[0] as number) / (widths[1] as number)).toBeCloseTo(2);
  });

  test('text is escaped', () => {
    const svg = renderLineChart({
      type: 'line',
      name: 'l',
      title: 'a < b & "c"',
      xLabel: 'x',
      yLabel: 'y',
      lines: [{ label: '<script>', kind: 'limit', points: [[0, 1]] }],
    });
    expect(svg).not.toContain('<script>');
    expect(svg).toContain('a &lt; b &amp; &quot;c&quot;');
  });

  test.each([0.03, 1, 7.2, 999, 1_000, 1_001, 54_321])('ticks reach %d in few steps', (max) => {
    const ticks = ticksUpTo(max);
    expect(ticks[0]).toBe(0);
    expect(ticks.at(-1)).toBeGreaterThanOrEqual(max);
    expect(ticks.length).toBeGreaterThan(2);
    expect(ticks.length).toBeLessThan(9);
  });
});

test('stored results keep lists of numbers on one line and read back the same', () => {
  const result = resultWith({ comparisons: [comparison({ ratios: [1.5, 2, 1e-7] })] });
  const json = toJson(result);
  expect(JSON.parse(json)).toEqual(result);
  expect(json).toContain('"ratios": [1.5, 2, 1e-7]');
});
