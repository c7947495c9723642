import { alignTable } from '../../src/cli/output.js';
import type { Result } from './results.js';
import type { Comparison, Target } from './scenario.js';
import { isReached, median, round } from './statistics.js';

/** A result as text for a terminal. */
export function summarize({ scenario, findings, durationSeconds }: Result): string {
  const parts = [`# ${scenario.title} (${durationSeconds} s)`];
  if (findings.throughput) {
    const rows = findings.throughput.map((figure) => [
      figure.label,
      String(Math.round(median(figure.eventsPerSecond))),
      String(Math.round(median(figure.settledEventsPerSecond))),
      figure.cost ? String(Math.round(figure.cost.serverCpuUs + figure.cost.clientCpuUs)) : '',
      String(figure.cost?.walBytes ?? ''),
      String(figure.latencyMs.p50),
      String(figure.latencyMs.p99),
      Object.entries(figure.notes)
        .map(([name, value]) => `${name}: ${value}`)
        .join(', '),
    ]);
    const header = [
      'approach',
      'events/s',
      'settled',
      'CPU us',
      'WAL B',
      'p50 ms',
      'p99 ms',
      'notes',
    ];
    parts.push(alignTable([header, ...rows], [1, 2, 3, 4]));
  }
  for (const table of findings.tables ?? []) {
    const rows = table.rows.map((row) => row.map((cell) => String(cell ?? '')));
    parts.push(`${table.title}\n${alignTable([table.columns, ...rows])}`);
  }
  const comparisons = findings.comparisons ?? [];
  if (comparisons.length > 0) parts.push(alignTable(comparisons.map(describeComparison)));
  for (const { name, ok, detail } of findings.checks) {
    parts.push(`${ok ? 'ok    ' : 'FAILED'} ${name}: ${detail}`);
  }
  return parts.join('\n');
}

export function describeTarget(target: Target | null): string {
  if (target === null) return '';
  return 'atLeast' in target ? `at least ${target.atLeast}x` : `at most ${target.atMost}x`;
}

function describeComparison(comparison: Comparison): string[] {
  const { subject, baseline, measure, ratios, target } = comparison;
  const reached = isReached(comparison);
  const spread = `${round(Math.min(...ratios), 3)}-${round(Math.max(...ratios), 3)}`;
  return [
    `${subject} / ${baseline}`,
    measure,
    `${round(median(ratios), 3)}x`,
    spread,
    describeTarget(target),
    reached === null ? '' : reached ? 'reached' : 'NOT REACHED',
  ];
}
