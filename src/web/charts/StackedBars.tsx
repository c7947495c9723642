import { type KeyboardEvent, type MouseEvent, useId, useMemo, useRef } from 'react';
import { Axes, type Frame, frameOf, yOf } from './Axes.js';
import type { Layer } from './layer.js';
import { labelStep, niceTicks, type Ticks, textWidth } from './ticks.js';
import { useWidth } from './useWidth.js';

const HEIGHT = 280;
const MAX_BAR = 44;
const TICKS = 4;

/**
 * Stacked bars. The pointer or the arrow keys read one, a click or Enter chooses it. Pixels are the
 * one place where an amount is a floating point number.
 */
export function StackedBars({
  layers,
  outline,
  labels,
  steps,
  label,
  unfinished,
  chosen,
  read,
  leastStep,
  formatTick,
  describe,
  onRead,
  onChoose,
}: {
  layers: readonly Layer[];
  /** One a bar, drawn as a dashed outline over all; null: none. */
  outline: readonly number[] | null;
  /** Of a bar, given the last bar that was labelled. */
  labels: (index: number, before: number | null) => string;
  /** Numbers of bars between two labels that may be chosen. */
  steps: readonly number[];
  /** Of the whole, for those who do not see it. */
  label: string;
  unfinished: number;
  chosen: number;
  read: number;
  leastStep: number;
  formatTick(value: number, step: number): string;
  describe(index: number): string;
  onRead(index: number): void;
  onChoose(index: number): void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const width = useWidth(box);
  const pattern = useId();
  const count = layers[0]?.values.length ?? 0;
  const ticks = useMemo(() => ticksOf(layers, outline, leastStep), [layers, outline, leastStep]);
  const frame = frameOf(
    width,
    HEIGHT,
    ticks.values.map((value) => formatTick(value, ticks.step)),
  );
  const band = (frame.right - frame.left) / Math.max(1, count);
  const middle = (index: number) => frame.left + band * (index + 0.5);
  const paths = useMemo(() => toPaths(layers, ticks, frame, band), [layers, ticks, frame, band]);

  function indexAt(event: MouseEvent<HTMLDivElement>): number {
    const x = event.clientX - event.currentTarget.getBoundingClientRect().left;
    return Math.min(count - 1, Math.max(0, Math.floor((x - frame.left) / band)));
  }

  function onKeyDown(event: KeyboardEvent): void {
    const last = count - 1;
    const targets: Record<string, number> = {
      ArrowRight: read < 0 ? 0 : read + 1,
      ArrowLeft: read < 0 ? last : read - 1,
      PageDown: read + 7,
      PageUp: read < 0 ? last : read - 7,
      Home: 0,
      End: last,
    };
    const next = targets[event.key];
    if (next !== undefined) onRead(Math.min(last, Math.max(0, next)));
    else if ((event.key === 'Enter' || event.key === ' ') && read >= 0) onChoose(read);
    else return;
    event.preventDefault();
  }

  return (
    <div
      ref={box}
      className="chart"
      role="slider"
      tabIndex={0}
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={Math.max(0, count - 1)}
      aria-valuenow={read < 0 ? Math.max(0, count - 1) : read}
      aria-valuetext={read < 0 ? 'nothing read yet' : describe(read)}
      onKeyDown={onKeyDown}
      onPointerMove={(event) => onRead(indexAt(event))}
      onClick={(event) => onChoose(indexAt(event))}
    >
      <svg width={width} height={HEIGHT} aria-hidden="true">
        <defs>
          <pattern
            id={pattern}
            width="6"
            height="6"
            patternUnits="userSpaceOnUse"
            patternTransform="rotate(45)"
          >
            <rect className="chart-hatch" width="3" height="6" />
          </pattern>
        </defs>
        {[chosen, read].map((index, place) =>
          index < 0 ? null : (
            <rect
              key={place === 0 ? 'chosen' : 'read'}
              className={place === 0 ? 'chart-chosen' : 'chart-read'}
              x={frame.left + band * index}
              y={frame.top}
              width={band}
              height={frame.bottom - frame.top}
            />
          ),
        )}
        <Axes
          frame={frame}
          ticks={ticks}
          format={(value) => formatTick(value, ticks.step)}
          labels={toLabels(count, band, steps, labels, middle)}
        />
        {paths.map((path, index) => (
          <path key={layers[index]?.key} className={layers[index]?.className} d={path} />
        ))}
        {unfinished >= 0 && (
          <rect
            className="chart-unfinished"
            fill={`url(#${pattern})`}
            x={middle(unfinished) - barWidth(band) / 2}
            width={barWidth(band)}
            {...heightOf(unfinished, layers, ticks, frame)}
          />
        )}
        {outline !== null && (
          <path className="chart-line chart-before" d={toSteps(outline, ticks, frame, band)} />
        )}
      </svg>
    </div>
  );
}

function ticksOf(
  layers: readonly Layer[],
  outline: readonly number[] | null,
  leastStep: number,
): Ticks {
  let low = 0;
  let high = 0;
  for (const value of outline ?? []) {
    high = Math.max(high, value);
    low = Math.min(low, value);
  }
  const count = layers[0]?.values.length ?? 0;
  for (let index = 0; index < count; index++) {
    const { up, down } = extentOf(index, layers);
    high = Math.max(high, up);
    low = Math.min(low, down);
  }
  return niceTicks(low, high, TICKS, leastStep);
}

/** How far a bar reaches above zero and below. */
function extentOf(index: number, layers: readonly Layer[]): { up: number; down: number } {
  let up = 0;
  let down = 0;
  for (const { values } of layers) {
    const value = values[index] ?? 0;
    if (value > 0) up += value;
    else down += value;
  }
  return { up, down };
}

function heightOf(index: number, layers: readonly Layer[], ticks: Ticks, frame: Frame) {
  const { up, down } = extentOf(index, layers);
  const y = yOf(up, ticks, frame);
  return { y, height: Math.max(0, yOf(down, ticks, frame) - y) };
}

function barWidth(band: number): number {
  return Math.max(1, Math.min(MAX_BAR, band * 0.74));
}

/** One path a layer: thousands of bars are a few elements. */
function toPaths(layers: readonly Layer[], ticks: Ticks, frame: Frame, band: number): string[] {
  const count = layers[0]?.values.length ?? 0;
  const ups = new Float64Array(count);
  const downs = new Float64Array(count);
  const width = barWidth(band);
  return layers.map(({ values }) => {
    const parts: string[] = [];
    for (const [index, value] of values.entries()) {
      if (value === 0) continue;
      const side = value > 0 ? ups : downs;
      const from = side[index] ?? 0;
      side[index] = from + value;
      const x = frame.left + band * (index + 0.5) - width / 2;
      const y = yOf(from, ticks, frame);
      parts.push(
        `M${x.toFixed(2)} ${y.toFixed(2)}h${width.toFixed(2)}` +
          `V${yOf(from + value, ticks, frame).toFixed(2)}h${(-width).toFixed(2)}z`,
      );
    }
    return parts.join('');
  });
}

/** From band to band. */
function toSteps(values: readonly number[], ticks: Ticks, frame: Frame, band: number): string {
  return values
    .map((value, index) => {
      const y = yOf(value, ticks, frame).toFixed(2);
      const start = index === 0 ? `M${frame.left} ${y}` : `V${y}`;
      return `${start}H${(frame.left + band * (index + 1)).toFixed(2)}`;
    })
    .join('');
}

function toLabels(
  count: number,
  band: number,
  steps: readonly number[],
  labels: (index: number, before: number | null) => string,
  middle: (index: number) => number,
) {
  // A label with its year is the widest.
  const widest = count === 0 ? 0 : Math.max(textWidth(labels(0, null)), textWidth('22 Nov'));
  const step = labelStep(steps, band, widest + 8);
  const shown: { key: number; x: number; text: string }[] = [];
  for (let index = 0; index < count; index += step) {
    const before = index === 0 ? null : index - step;
    shown.push({ key: index, x: middle(index), text: labels(index, before) });
  }
  return shown;
}
