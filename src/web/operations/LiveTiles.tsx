import { formatCompact, formatCount } from '../amounts.js';
import type { Outputs } from '../api.js';
import { Tile } from '../components/Card.js';
import { formatSpan } from '../days.js';

type Live = Outputs['operations']['live'];

/** Unsettled rows older than this wait for something. */
const OLD_PENDING_MS = 10_000;

/** The write path in six figures. Rates are of this server process. */
export function LiveTiles({ live }: { live: Live }) {
  const last = live.points.at(-1);
  const { pending } = live;
  const isOld = pending !== null && pending.oldestAgeMs > OLD_PENDING_MS;
  return (
    <dl className="tiles">
      <Tile
        label="Unsettled rows"
        value={pending === null ? '–' : formatCount(pending.depth)}
        note={
          pending === null
            ? 'not known'
            : pending.depth === 0
              ? 'all settled'
              : `oldest ${formatSpan(pending.oldestAgeMs / 1_000)}`
        }
        tone={isOld ? 'warning' : undefined}
      />
      <Tile
        label="Settled rows"
        value={perSecond(last?.settledRowsPerSecond)}
        note="rows of the log folded into counter rows"
      />
      <Tile label="Events" value={perSecond(last?.eventsPerSecond)} note={describeEvents(live)} />
      <Tile
        label="Write latency p99"
        value={ms(last?.p99Ms)}
        note={`p50 ${ms(last?.p50Ms)} · p95 ${ms(last?.p95Ms)}`}
      />
      <Tile
        label="Connections"
        value={`${live.pool.total - live.pool.idle} busy`}
        note={`${live.pool.idle} idle · ${live.pool.waiting} callers waiting`}
        tone={live.pool.waiting > live.pool.total ? 'warning' : undefined}
      />
      <Tile label="Local journal" {...describeJournal(live.journal)} />
    </dl>
  );
}

function perSecond(rate: number | undefined): string {
  if (rate === undefined) return '–';
  return `${rate >= 100 ? formatCompact(Math.round(rate)) : rate.toFixed(1)} /s`;
}

function ms(value: number | null | undefined): string {
  if (value == null) return '–';
  return value >= 1_000 ? `${(value / 1_000).toFixed(1)} s` : `${value.toFixed(1)} ms`;
}

function describeEvents(live: Live): string {
  const counts = new Map<string, number>();
  for (const { outcome, count } of live.events) {
    counts.set(outcome, (counts.get(outcome) ?? 0) + count);
  }
  const rejected = counts.get('rejected') ?? 0;
  return `${formatCompact(counts.get('recorded') ?? 0)} recorded, ${formatCompact(rejected)} rejected since start`;
}

/** The journal is a part of its own; its depth is shown when it says one. */
function describeJournal(journal: unknown): { value: string; note: string } {
  if (journal === null || typeof journal !== 'object') {
    return { value: '–', note: 'not in use' };
  }
  const { depth, oldestAgeMs, error } = journal as Record<string, unknown>;
  if (error !== undefined) return { value: '–', note: 'does not answer' };
  if (typeof depth !== 'number') return { value: 'in use', note: 'depth not told' };
  const age = typeof oldestAgeMs === 'number' ? `oldest ${formatSpan(oldestAgeMs / 1_000)}` : '';
  return { value: formatCount(depth), note: depth === 0 ? 'nothing waits' : age };
}
