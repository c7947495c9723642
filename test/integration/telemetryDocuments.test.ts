import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { createTelemetryMetrics } from '../../src/telemetry/metrics.js';
import { unitOf } from '../../src/telemetry/units.js';
import { readPromQl } from '../support/promql.js';
import { startTestGateway, type TestGateway } from './gatewayHarness.js';

/**
 * The dashboard, the alert rules, the runbook and the table of metrics, against what a running
 * service exports. `vitest run -u` writes docs/metrics.md anew.
 */
const REPOSITORY = path.join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(path.join(REPOSITORY, file), 'utf8');

interface Metric {
  name: string;
  type: string;
  help: string;
  labelNames: string[];
}

interface Rule {
  alert: string;
  expr: string;
  for: string;
  labels: { severity: string };
  annotations: { summary: string; runbook_url: string };
}

interface Panel {
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { expr: string }[];
}

const rules: Rule[] = parse(read('contrib/prometheus/alerts.yaml')).groups.flatMap(
  (group: { rules: Rule[] }) => group.rules,
);
const dashboard: { uid: string; panels: Panel[]; templating: object } = JSON.parse(
  read('contrib/grafana/microdollar.json'),
);
const panels = dashboard.panels.filter(({ type }) => type !== 'row');
/** Grafana's variables as it fills them in. */
const filledIn = (text: string) =>
  text.replaceAll('$__rate_interval', '5m').replaceAll(/\$(job|instance)\b/g, '.*');
const variables = [
  ...JSON.stringify(dashboard.templating).matchAll(/label_values\((.*?), (\w+)\)/g),
];
const expressions = [
  ...rules.map(({ alert, expr }) => [alert, expr] as const),
  ...panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => [`panel ${title}`, filledIn(expr)] as const),
  ),
  ...variables.map(
    ([, selector = '', label = '']) =>
      [
        `variable ${label}`,
        filledIn(selector.replaceAll('\\\\"', '"').replaceAll('\\"', '"')),
      ] as const,
  ),
];
/** Of every scraped series. */
const SCRAPED_LABELS = ['job', 'instance'];

let gateway: TestGateway;
const metrics = new Map<string, Metric>();

beforeAll(async () => {
  const telemetry = createTelemetryMetrics().registry;
  gateway = await startTestGateway({ server: { registries: [telemetry] } });
  for (const metric of listOf(gateway.server.readMetrics())) metrics.set(metric.name, metric);
});
afterAll(() => gateway?.stop());

function listOf(registry: Registry): Metric[] {
  return (registry.getMetricsAsArray() as unknown as (Metric & { type: unknown })[]).map(
    ({ name, help, labelNames, type }) => ({ name, help, labelNames, type: String(type) }),
  );
}

/** The metric of a series: of a histogram there are three. */
function metricOf(series: string): Metric | null {
  const exact = metrics.get(series);
  if (exact !== undefined) return exact.type === 'histogram' ? null : exact;
  const histogram = metrics.get(series.replace(/_(bucket|sum|count)$/, ''));
  return histogram?.type === 'histogram' ? histogram : null;
}

function labelsOf(series: string): string[] {
  const labels = metricOf(series)?.labelNames ?? [];
  return [...SCRAPED_LABELS, ...labels, ...(series.endsWith('_bucket') ? ['le'] : [])];
}

describe('the expressions of alerts and dashboard', () => {
  it.each(expressions)('%s: name what is exported, by labels that it has', (_, expression) => {
    const { selectors, groupings } = readPromQl(expression);
    expect(selectors).not.toEqual([]);
    for (const { metric, labels, rangeFunction } of selectors) {
      const found = metricOf(metric);
      expect(found, metric).not.toBeNull();
      expect(labelsOf(metric), metric).toEqual(expect.arrayContaining(labels));
      const isCounter = found?.type === 'counter' || found?.type === 'histogram';
      expect(rangeFunction !== null, `${metric} in rate or increase`).toBe(isCounter);
    }
    for (const { labels, metrics: read } of groupings) {
      for (const metric of read) {
        expect(labelsOf(metric), metric).toEqual(expect.arrayContaining(labels));
      }
    }
  });

  it('would be found out: a metric, a label, a grouping and a syntax that are wrong', () => {
    expect(metricOf('microdollar_gone')).toBeNull();
    expect(metricOf('microdollar_record_duration_seconds')).toBeNull();
    expect(readPromQl('sum by (pod) (rate(a{b="c"}[5m]))')).toEqual({
      selectors: [{ metric: 'a', labels: ['b'], rangeFunction: 'rate' }],
      groupings: [{ labels: ['pod'], metrics: ['a'] }],
    });
    expect(() => readPromQl('sum by (pod (a)')).toThrow(/no PromQL/);
    expect(labelsOf('microdollar_events_total')).not.toContain('pod');
  });
});

describe('the alert rules', () => {
  it.each(rules)('$alert: says how bad it is, what it is and what to do', (rule) => {
    expect(rule.alert).toMatch(/^Microdollar[A-Z]\w+$/);
    expect(['critical', 'warning', 'info']).toContain(rule.labels.severity);
    expect(rule.for).toMatch(/^\d+[mh]$/);
    expect(rule.annotations.summary.length).toBeGreaterThan(10);
    const known = labelsShownBy(rule.expr);
    for (const [, label = ''] of rule.annotations.summary.matchAll(/\$labels\.(\w+)/g)) {
      expect(known, `${rule.alert} shows ${label}`).toContain(label);
    }
  });

  it('each have a place in the runbook, and no place there is without one', () => {
    const headings = [...read('docs/runbook.md').matchAll(/^## (.+)$/gm)].map(
      ([, heading = '']) => `docs/runbook.md#${heading.toLowerCase().replaceAll(' ', '-')}`,
    );
    const cited = rules.map(({ annotations }) => annotations.runbook_url);
    expect([...new Set(cited)].sort()).toEqual([...headings].sort());
  });

  it('have names of their own', () => {
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  });
});

/** Labels of the series that an expression leaves. */
function labelsShownBy(expression: string): string[] {
  const { selectors, groupings } = readPromQl(expression);
  if (groupings.length > 0) return groupings.flatMap(({ labels }) => labels);
  return selectors.flatMap(({ metric }) => labelsOf(metric));
}

describe('the dashboard', () => {
  it('has panels with a title and a description, side by side', () => {
    for (const { title, description = '' } of panels) {
      expect(title).not.toBe('');
      expect(description.length, title).toBeGreaterThan(3);
    }
    const cells = new Set<string>();
    for (const { gridPos, title } of dashboard.panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(cells.has(`${x},${y}`), `${title} covers another panel`).toBe(false);
          cells.add(`${x},${y}`);
        }
      }
    }
  });

  it('cites places of the runbook that are there', () => {
    const cited = panels.flatMap(({ description = '' }) =>
      [...description.matchAll(/Runbook: ([^.]+)\./g)].flatMap(([, places = '']) =>
        places.split(', '),
      ),
    );
    const anchors = rules.map(({ annotations }) => annotations.runbook_url.split('#')[1]);
    expect(cited.length).toBeGreaterThan(5);
    expect(anchors).toEqual(expect.arrayContaining(cited));
  });

  it('shows every metric of ours', () => {
    const shown = new Set(
      expressions.flatMap(([, expression]) =>
        readPromQl(expression).selectors.map(({ metric }) => metricOf(metric)?.name),
      ),
    );
    const ours = [...metrics.keys()].filter((name) => name.startsWith('microdollar_'));
    expect(ours.filter((name) => !shown.has(name))).toEqual([]);
  });
});

describe('the table of metrics', () => {
  it('has every metric with its unit, labels and meaning', async () => {
    const of = (belongs: (name: string) => boolean) =>
      [...metrics.values()].filter(({ name }) => belongs(name)).map(toRow);
    const isGateway = (name: string) => /^microdollar_(gateway|journal|dead_letter)/.test(name);
    const isProcess = (name: string) => /^(process|nodejs)_/.test(name);
    const isOther = (name: string) => !isGateway(name) && !isProcess(name);
    const table = (title: string, rows: string[]) =>
      [
        `## ${title}`,
        '| metric | type | unit | labels | meaning |',
        '|---|---|---|---|---|',
        ...rows,
      ].join('\n');
    const text = [
      '# Metrics',
      'Of a running service: at `/metrics` for Prometheus, and under the same names by OTLP\n' +
        '([telemetry.md](telemetry.md)). This page is written by a test. Times and sizes are in base units; a counter ends\n' +
        'with `_total`, and begins at 0 with its process. What to watch: contrib/grafana/microdollar.json and\n' +
        'contrib/prometheus/alerts.yaml; what to do then: [runbook.md](runbook.md).',
      table('Ledger, server', of(isOther)),
      table('Gateway, journal', of(isGateway)),
      table('Process', of(isProcess)),
    ].join('\n\n');
    await expect(`${text}\n`).toMatchFileSnapshot(path.join(REPOSITORY, 'docs/metrics.md'));
  });
});

function toRow({ name, type, labelNames, help }: Metric): string {
  const labels = labelNames.map((label) => `\`${label}\``).join(', ');
  return `| \`${name}\` | ${type} | ${unitOf(name)} | ${labels} | ${help.replaceAll('|', '\\|')} |`;
}
