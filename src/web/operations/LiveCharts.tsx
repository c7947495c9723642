import { formatCompact } from '../amounts.js';
import type { Outputs } from '../api.js';
import { Lines } from '../charts/Lines.js';
import { Card } from '../components/Card.js';
import { Empty } from '../components/Notice.js';

type Live = Outputs['operations']['live'];
type Point = Live['points'][number];

interface ReadLine {
  name: string;
  className: string;
  read(point: Point): number | null;
}

const LATENCY: readonly ReadLine[] = [
  { name: 'p50', className: 'line-1', read: (point) => point.p50Ms },
  { name: 'p95', className: 'line-2', read: (point) => point.p95Ms },
  { name: 'p99', className: 'line-3', read: (point) => point.p99Ms },
];
const RATES: readonly ReadLine[] = [
  { name: 'events', className: 'line-1', read: (point) => point.eventsPerSecond },
  { name: 'settled rows', className: 'line-3', read: (point) => point.settledRowsPerSecond },
];

/** Ten minutes of the write path of this server process. */
export function LiveCharts({ live }: { live: Live }) {
  return (
    <div className="operations-pair">
      <Card title="Write latency" note="Milliseconds to a durable answer, last ten minutes">
        <LiveChart points={live.points} lines={LATENCY} unit="ms" />
      </Card>
      <Card title="Writes" note="Events and settled rows per second, last ten minutes">
        <LiveChart points={live.points} lines={RATES} unit="/s" />
      </Card>
    </div>
  );
}

function LiveChart({
  points,
  lines,
  unit,
}: {
  points: readonly Point[];
  lines: readonly ReadLine[];
  unit: string;
}) {
  const hasData = points.some((point) => lines.some((line) => (line.read(point) ?? 0) > 0));
  const latest = points.at(-1);
  if (!hasData) return <Empty title="No writes in the last ten minutes" />;
  return (
    <>
      <ul className="legend">
        {lines.map(({ name, className, read }) => (
          <li key={name}>
            <span className={`legend-line ${className}`} aria-hidden="true" />
            {name} <strong>{format(latest === undefined ? null : read(latest), unit)}</strong>
          </li>
        ))}
      </ul>
      <Lines
        lines={lines.map(({ read, ...line }) => ({ ...line, values: points.map(read) }))}
        moments={points.map(({ at }) => new Date(Date.parse(at)).toISOString().slice(11, 19))}
        label={`Lines over time in ${unit}`}
        formatTick={(value) => `${formatCompact(value)} ${unit}`}
      />
    </>
  );
}

function format(value: number | null, unit: string): string {
  if (value === null) return '–';
  return `${value >= 100 ? formatCompact(Math.round(value)) : value.toFixed(1)} ${unit}`;
}
