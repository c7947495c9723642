import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { formatCents, formatExact } from '../amounts.js';
import type { DailySeries } from '../dailySeries.js';
import { formatDayLong, formatDayShort, toEpochSeconds } from '../days.js';
import { resolveColor, useColorKey } from '../theme.js';

const HEIGHT = 260;
const DAY_SECONDS = 86_400;

/** Bars by day. The pointer or the arrow keys read a day, a click or Enter chooses it. */
export function SpendChart({
  series,
  chosenDay,
  onChoose,
}: {
  series: DailySeries;
  chosenDay: string | null;
  onChoose(day: string): void;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [index, setIndex] = useState<number | null>(null);
  const colors = useColorKey();
  const choose = useRef(onChoose);
  choose.current = onChoose;

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const made = draw(element, series, {
      onRead: setIndex,
      onChoose: (at) => {
        const chosen = series.days[at];
        if (chosen) choose.current(chosen.day);
      },
    });
    plot.current = made;
    const observer = new ResizeObserver(() =>
      made.setSize({ width: element.clientWidth, height: HEIGHT }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
      setIndex(null);
    };
  }, [series, colors]);

  useEffect(() => {
    plot.current?.setData(toPixels(series, chosenDay));
  }, [series, chosenDay, colors]);

  function readAt(next: number): void {
    const made = plot.current;
    if (made === null) return;
    const at = Math.min(series.days.length - 1, Math.max(0, next));
    const left = made.valToPos(made.data[0][at] ?? 0, 'x');
    made.setCursor({ left, top: HEIGHT / 3 });
    setIndex(at);
  }

  function onKeyDown(event: KeyboardEvent): void {
    const last = series.days.length - 1;
    const steps: Record<string, () => number> = {
      ArrowRight: () => (index ?? -1) + 1,
      ArrowLeft: () => (index ?? last + 1) - 1,
      PageDown: () => (index ?? 0) + 7,
      PageUp: () => (index ?? last) - 7,
      Home: () => 0,
      End: () => last,
    };
    const step = steps[event.key];
    const read = index === null ? undefined : series.days[index];
    if (step) readAt(step());
    else if ((event.key === 'Enter' || event.key === ' ') && read) onChoose(read.day);
    else return;
    event.preventDefault();
  }

  const summary = useMemo(() => summarize(series), [series]);
  const read = index === null ? undefined : series.days[index];
  return (
    <>
      <div className="readout" aria-live="polite" data-testid="readout">
        {read === undefined ? (
          <span className="muted">
            Point at a day, or use the arrow keys; a click or Enter shows it by model.
          </span>
        ) : (
          <>
            <span>{formatDayLong(read.day)} (UTC)</span>
            <data className="readout-amount" value={read.microdollars} data-day={read.day}>
              {formatExact(read.microdollars)}
            </data>
            {read.day === chosenDay && <span className="chip">by model below</span>}
          </>
        )}
      </div>
      <div
        ref={box}
        className="chart"
        role="slider"
        tabIndex={0}
        aria-label={`Daily spend. ${summary}`}
        aria-valuemin={0}
        aria-valuemax={series.days.length - 1}
        aria-valuenow={index ?? series.days.length - 1}
        aria-valuetext={
          read === undefined
            ? 'no day read'
            : `${formatDayLong(read.day)}: ${formatExact(read.microdollars)}`
        }
        onKeyDown={onKeyDown}
      />
    </>
  );
}

function summarize(series: DailySeries): string {
  const largest = series.days.reduce(
    (most, day) => (day.microdollars > most.microdollars ? day : most),
    series.days[0] ?? { day: series.from, microdollars: 0 },
  );
  return (
    `Total ${formatExact(series.totalMicrodollars)}; ` +
    `most on ${formatDayLong(largest.day)}: ${formatExact(largest.microdollars)}.`
  );
}

function draw(
  element: HTMLElement,
  series: DailySeries,
  on: { onRead(index: number | null): void; onChoose(index: number): void },
): uPlot {
  const text = resolveColor(element, '--muted');
  const grid = resolveColor(element, '--line');
  const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  const plot = new uPlot(
    {
      width: element.clientWidth,
      height: HEIGHT,
      padding: [12, 8, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1_000), 'Etc/UTC'),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        // Room for the first and the last bar.
        x: { range: (_plot, min, max) => [min - DAY_SECONDS / 2, max + DAY_SECONDS / 2] },
        y: { range: (_plot, min, max) => [Math.min(0, min * 1.1), max > 0 ? max * 1.08 : 1] },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 30,
          space: 64,
          incrs: [1, 2, 7, 14, 28, 56, 112].map((days) => days * DAY_SECONDS),
          values: (_plot, splits) =>
            splits.map((seconds) =>
              formatDayShort(new Date(seconds * 1_000).toISOString().slice(0, 10)),
            ),
        },
        {
          ...axis,
          size: 64,
          values: (_plot, splits) => splits.map((usd) => axisUsd(usd)),
        },
      ],
      series: [
        {},
        barSeries(resolveColor(element, '--bar')),
        barSeries(resolveColor(element, '--bar-chosen')),
      ],
      hooks: {
        setCursor: [({ cursor }) => on.onRead(cursor.idx ?? null)],
      },
    },
    toPixels(series, null),
    element,
  );
  plot.over.addEventListener('click', () => {
    if (plot.cursor.idx != null) on.onChoose(plot.cursor.idx);
  });
  return plot;
}

function barSeries(color: string): uPlot.Series {
  const bars = uPlot.paths.bars?.({ size: [0.72, 44], radius: 0.18 });
  const paths = bars === undefined ? {} : { paths: bars };
  return { fill: color, stroke: color, width: 0, points: { show: false }, ...paths };
}

/** USD for the canvas, the chosen day once more on top; what is read stays in microdollars. */
function toPixels(series: DailySeries, chosenDay: string | null): uPlot.AlignedData {
  const usd = series.days.map(({ microdollars }) => microdollars / 1_000_000);
  return [
    series.days.map(({ day }) => toEpochSeconds(day)),
    usd,
    series.days.map(({ day }, index) => (day === chosenDay ? (usd[index] ?? null) : null)),
  ];
}

function axisUsd(usd: number): string {
  const cents = formatCents(Math.round(usd * 1_000_000));
  return Number.isInteger(usd) ? cents.replace(/\.00$/, '') : cents;
}
