import { useEffect, useRef } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { formatCompact } from '../amounts.js';
import type { Outputs } from '../api.js';
import { Card } from '../components/Card.js';
import { Empty } from '../components/Notice.js';
import { resolveColor, useColorKey } from '../theme.js';

type Live = Outputs['operations']['live'];
type Point = Live['points'][number];

interface Line {
  name: string;
  color: string;
  read(point: Point): number | null;
}

const HEIGHT = 180;
const LATENCY: readonly Line[] = [
  { name: 'p50', color: '--series-1', read: (point) => point.p50Ms },
  { name: 'p95', color: '--series-2', read: (point) => point.p95Ms },
  { name: 'p99', color: '--series-3', read: (point) => point.p99Ms },
];
const RATES: readonly Line[] = [
  { name: 'events', color: '--series-1', read: (point) => point.eventsPerSecond },
  {
    name: 'settled rows',
    color: '--series-3',
    read: (point) => point.settledRowsPerSecond,
  },
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
  lines: readonly Line[];
  unit: string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const colors = useColorKey();
  const hasData = points.some((point) => lines.some((line) => (line.read(point) ?? 0) > 0));
  const latest = points.at(-1);

  useEffect(() => {
    const element = box.current;
    if (element === null || !hasData) return;
    const made = draw(element, lines, unit);
    plot.current = made;
    const observer = new ResizeObserver(() =>
      made.setSize({ width: element.clientWidth, height: HEIGHT }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [lines, unit, colors, hasData]);

  useEffect(() => {
    plot.current?.setData([
      points.map(({ at }) => Date.parse(at) / 1_000),
      ...lines.map((line) => points.map(line.read)),
    ]);
  }, [points, lines, colors, hasData]);

  if (!hasData) return <Empty title="No writes in the last ten minutes" />;
  return (
    <>
      <ul className="legend">
        {lines.map((line, index) => (
          <li key={line.name}>
            <span className={`legend-mark series-${line.color.slice(-1)}`} aria-hidden="true" />
            {line.name}{' '}
            <strong>
              {format(latest === undefined ? null : (lines[index]?.read(latest) ?? null), unit)}
            </strong>
          </li>
        ))}
      </ul>
      <div ref={box} className="chart" role="img" aria-label={`Lines over time in ${unit}`} />
    </>
  );
}

function format(value: number | null, unit: string): string {
  if (value === null) return '–';
  return `${value >= 100 ? formatCompact(Math.round(value)) : value.toFixed(1)} ${unit}`;
}

function draw(element: HTMLElement, lines: readonly Line[], unit: string): uPlot {
  const axis = {
    stroke: resolveColor(element, '--muted'),
    grid: { stroke: resolveColor(element, '--line'), width: 1 },
    ticks: { show: false },
  };
  return new uPlot(
    {
      width: element.clientWidth,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1_000), 'Etc/UTC'),
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 30,
          space: 70,
          values: (_plot, splits) =>
            splits.map((seconds) => new Date(seconds * 1_000).toISOString().slice(11, 19)),
        },
        {
          ...axis,
          size: 60,
          values: (_plot, splits) => splits.map((value) => `${formatCompact(value)} ${unit}`),
        },
      ],
      series: [
        {},
        ...lines.map((line) => ({
          label: line.name,
          stroke: resolveColor(element, line.color),
          width: 1.5,
          spanGaps: false,
          points: { show: false },
        })),
      ],
    },
    [[], ...lines.map(() => [])],
    element,
  );
}
