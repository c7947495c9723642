import { useRef } from 'react';
import { Axes, frameOf, yOf } from './Axes.js';
import { niceTicks, textWidth } from './ticks.js';
import { useWidth } from './useWidth.js';

const HEIGHT = 190;
const TICKS = 3;

export interface Line {
  name: string;
  /** Of the style sheet. */
  className: string;
  /** Null: nothing is known, and the line has a gap. */
  values: readonly (number | null)[];
}

/** Lines over evenly spaced moments. */
export function Lines({
  lines,
  moments,
  label,
  formatTick,
}: {
  lines: readonly Line[];
  /** What each moment is called. */
  moments: readonly string[];
  label: string;
  formatTick(value: number): string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const high = Math.max(0, ...lines.flatMap(({ values }) => values.map((value) => value ?? 0)));
  const ticks = niceTicks(0, high, TICKS, 0.001);
  const frame = frameOf(width, HEIGHT, ticks.values.map(formatTick));
  const last = Math.max(1, moments.length - 1);
  const xOf = (index: number) => frame.left + ((frame.right - frame.left) * index) / last;
  const room = (frame.right - frame.left) / (textWidth(moments[0] ?? '') + 24);
  const step = Math.max(1, Math.ceil(moments.length / Math.max(1, room)));
  const labels = moments
    .map((text, index) => ({ key: index, x: xOf(index), text }))
    .filter(({ key }) => key % step === 0);
  return (
    <div ref={box} className="chart" role="img" aria-label={label}>
      <svg width={width} height={HEIGHT} aria-hidden="true">
        <Axes frame={frame} ticks={ticks} format={formatTick} labels={labels} />
        {lines.map(({ name, className, values }) => (
          <path
            key={name}
            className={`chart-line ${className}`}
            d={toPath(values, xOf, (value) => yOf(value, ticks, frame))}
          />
        ))}
      </svg>
    </div>
  );
}

function toPath(
  values: readonly (number | null)[],
  xOf: (index: number) => number,
  y: (value: number) => number,
): string {
  let path = '';
  let isDown = false;
  for (const [index, value] of values.entries()) {
    if (value !== null) {
      const place = `${xOf(index).toFixed(1)} ${y(value).toFixed(1)}`;
      // Of a moment between two gaps: a dot.
      path += isDown ? `L${place}` : `M${place}h0`;
    }
    isDown = value !== null;
  }
  return path;
}
