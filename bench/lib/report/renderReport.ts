import type { Result } from '../results.js';
import type { ApproachFigures, Chart, Comparison } from '../scenario.js';
import { isReached, median } from '../statistics.js';
import { describeTarget } from '../summary.js';
import { renderBarChart } from './barChart.js';
import { renderLineChart } from './lineChart.js';
import { type Cell, markdownTable, oneLine } from './markdown.js';
import { formatNumber } from './svg.js';
import { targetsOf, winnersOf } from './verdicts.js';

/** Charts, from docs/benchmarks.md. */
export const CHART_DIRECTORY = 'images/benchmarks';

export interface Report {
  markdown: string;
  /** SVG text by file name. */
  charts: Map<string, string>;
}

const INTRODUCTION = `# Benchmarks

This page is written by \`npm run bench -- --report\` from the results in \`bench/results\`; nothing on it
is typed by hand. \`npm run bench\` measures everything anew, and needs nothing but Node.

**How to read it.** Ratios count, absolute figures do not: they are those of one machine, whose two
cores served the client and the server alike. A ratio is taken within a run: approaches take turns in
slices of a second or two, each round gives one ratio, and what is shown is their median, with the
lowest and the highest. Every approach writes the same columns through the same client with the same
durability, and after the timing its totals are compared with raw usage to the microdollar.`;

/** The page and its charts, from stored results in the given order. */
export function renderReport(results: readonly Result[]): Report {
  const sections = [
    INTRODUCTION,
    renderTargets(results),
    renderWinners(results),
    ...results.map(renderScenario),
    renderEnvironments(results),
  ];
  const charts = new Map<string, string>();
  for (const { scenario, findings } of results) {
    for (const chart of findings.charts ?? []) {
      charts.set(chartFile(scenario.name, chart), renderChart(chart));
    }
  }
  const markdown = `${sections.filter((section) => section !== '').join('\n\n')}\n`;
  return { markdown, charts };
}

function renderTargets(results: readonly Result[]): string {
  const rows = targetsOf(results);
  if (rows.length === 0) return '';
  const missed = rows.filter((row) => !row.reached).length;
  const summary =
    missed === 0
      ? `All ${rows.length} targets are reached.`
      : `${rows.length - missed} of ${rows.length} targets are reached, ${missed} are not.`;
  return [
    '## Targets',
    summary,
    markdownTable(
      ['scenario', 'ours', 'against', 'measure', 'target', 'measured', 'spread', ''],
      rows.map(({ scenario, comparison, reached }) => [
        scenario,
        comparison.subject,
        comparison.baseline,
        comparison.measure,
        describeTarget(comparison.target),
        describeRatio(comparison),
        describeSpread(comparison),
        reached ? 'reached' : '**not reached**',
      ]),
    ),
  ].join('\n\n');
}

function renderWinners(results: readonly Result[]): string {
  const winners = results.flatMap(winnersOf);
  if (winners.length === 0) return '';
  const times = (factor: number | null) => (factor === null ? '' : `${formatNumber(factor)}x`);
  return [
    '## Where something else is faster',
    'Approaches that write faster than ours in the same shape (one event a statement, or batches), ' +
      'and what their users accept for it. The last column sets group commit, the default, against ' +
      'them.',
    markdownTable(
      ['scenario', 'faster', 'than', 'by', 'price', 'group commit to it'],
      winners.map(({ scenario, winner, loser, factor, price, groupCommitFactor }) => [
        scenario,
        winner,
        loser,
        times(factor),
        price,
        times(groupCommitFactor),
      ]),
    ),
  ].join('\n\n');
}

function renderScenario(result: Result): string {
  const { scenario, findings } = result;
  const parts = [
    `## ${scenario.title}`,
    `**Question.** ${oneLine(scenario.question)}`,
    `**Workload.** ${oneLine(scenario.workload)}`,
    `**Compared with.** ${oneLine(scenario.baseline)}`,
    ...(findings.charts ?? []).map(
      (chart) => `![${chart.title}](${CHART_DIRECTORY}/${chartFile(scenario.name, chart)})`,
    ),
  ];
  if (findings.throughput) parts.push(renderThroughput(findings.throughput));
  for (const table of findings.tables ?? []) {
    parts.push(`${table.title}:`, markdownTable(table.columns, table.rows));
  }
  const comparisons = findings.comparisons ?? [];
  if (comparisons.length > 0) parts.push('Ratios:', renderComparisons(comparisons));
  const checks = findings.checks.map(
    ({ name, ok, detail }) => `- ${ok ? 'holds' : '**fails**'}: ${name} (${detail})`,
  );
  parts.push('Checked after the timing:', checks.join('\n'), renderProvenance(result));
  return parts.join('\n\n');
}

function renderThroughput(figures: readonly ApproachFigures[]): string {
  const notes = figures.flatMap(({ label, notes: own, caveat }) => {
    const values = Object.entries(own).map(([name, value]) => `${name} ${formatNumber(value)}`);
    const all = [...(caveat === '' ? [] : [caveat]), ...values];
    return all.length === 0 ? [] : [`- ${label}: ${all.join('; ')}`];
  });
  const table = markdownTable(
    [
      'approach',
      'calls in flight',
      'events/s',
      'lowest',
      'highest',
      'until settled',
      'CPU us (server + client)',
      'WAL B',
      'p50 ms',
      'p99 ms',
    ],
    figures.map((figure): Cell[] => [
      figure.label,
      figure.callers,
      median(figure.eventsPerSecond),
      Math.min(...figure.eventsPerSecond),
      Math.max(...figure.eventsPerSecond),
      median(figure.settledEventsPerSecond),
      figure.cost
        ? `${Math.round(figure.cost.serverCpuUs)} + ${Math.round(figure.cost.clientCpuUs)}`
        : '',
      figure.cost?.walBytes ?? '',
      figure.latencyMs.p50,
      figure.latencyMs.p99,
    ]),
  );
  const settled =
    '*Until settled* counts the time until totals were up to date after each slice as well. ' +
    'Latency is that of a call.';
  return [table, settled, notes.join('\n')].filter((part) => part !== '').join('\n\n');
}

function renderComparisons(comparisons: readonly Comparison[]): string {
  return markdownTable(
    ['of', 'to', 'measure', 'ratio', 'spread', 'target'],
    comparisons.map((comparison) => [
      comparison.subject,
      comparison.baseline,
      comparison.measure,
      describeRatio(comparison),
      describeSpread(comparison),
      describeVerdict(comparison),
    ]),
  );
}

function describeRatio({ ratios }: Comparison): string {
  return `${formatNumber(median(ratios))}x`;
}

function describeSpread({ ratios }: Comparison): string {
  if (ratios.length === 1) return '';
  return `${formatNumber(Math.min(...ratios))} - ${formatNumber(Math.max(...ratios))}`;
}

function describeVerdict(comparison: Comparison): string {
  const reached = isReached(comparison);
  if (reached === null) return '';
  const verdict = reached ? 'reached' : '**not reached**';
  return `${describeTarget(comparison.target)}: ${verdict}`;
}

/** Below this, something else ran beside the benchmark. */
const IDLE_ENOUGH = 0.9;

function renderProvenance(result: Result): string {
  const { startedAt, durationSeconds, seconds, idleBefore, environment } = result;
  const when =
    `Measured on ${startedAt.slice(0, 10)} in ${durationSeconds} s, commit ${environment.commit}, ` +
    `PostgreSQL ${environment.postgres}, Node ${environment.node}.`;
  const short = seconds === null ? '' : ` A shortened run (\`--seconds ${seconds}\`).`;
  const busy =
    idleBefore >= IDLE_ENOUGH
      ? ''
      : ` The machine was busy with something else (${Math.round(idleBefore * 100)}% idle before ` +
        'it began): take these figures as rough.';
  return `${when}${short}${busy}`;
}

/** Each distinct machine and setting once. */
function renderEnvironments(results: readonly Result[]): string {
  const environments = new Map<string, string>();
  for (const { environment } of results) {
    const { cores, cpu, memoryGiB, platform, settings } = environment;
    const machine = `${cores} cores (${cpu}), ${memoryGiB} GiB, ${platform}`;
    const shown = Object.entries(settings).map(([name, value]) => `\`${name}=${value}\``);
    environments.set(
      machine + shown.join(),
      `${machine}; a durable commit of one row by one client takes ${environment.commitMs} ms (p50). ` +
        `PostgreSQL: ${shown.join(', ')}.`,
    );
  }
  return ['## Machine and settings', ...environments.values()].join('\n\n');
}

function chartFile(scenario: string, chart: Chart): string {
  return `${scenario}-${chart.name}.svg`;
}

function renderChart(chart: Chart): string {
  return chart.type === 'bar' ? renderBarChart(chart) : renderLineChart(chart);
}
