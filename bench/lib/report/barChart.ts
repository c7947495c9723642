import type { BarChart } from '../scenario.js';
import { colourOf, fixed, formatNumber, svgDocument, text, ticksUpTo } from './svg.js';

const WIDTH = 860;
const LABEL_WIDTH = 330;
const VALUE_WIDTH = 90;
const ROW_HEIGHT = 26;
const BAR_HEIGHT = 16;
const TOP = 44;
const BOTTOM = 44;

/** Horizontal bars from zero, with whiskers from `low` to `high`. */
export function renderBarChart(chart: BarChart): string {
  const height = TOP + chart.bars.length * ROW_HEIGHT + BOTTOM;
  const ticks = ticksUpTo(Math.max(...chart.bars.map(({ value, high }) => Math.max(value, high))));
  const max = ticks.at(-1) ?? 1;
  const scale = (value: number) =>
    LABEL_WIDTH + (value / max) * (WIDTH - LABEL_WIDTH - VALUE_WIDTH);
  const bottom = TOP + chart.bars.length * ROW_HEIGHT;
  const grid = ticks.flatMap((tick) => [
    `<line x1="${fixed(scale(tick))}" y1="${TOP}" x2="${fixed(scale(tick))}" y2="${bottom}" ` +
      'stroke="#d0d7de"/>',
    text(scale(tick), bottom + 16, formatNumber(tick), { anchor: 'middle', size: 11 }),
  ]);
  const bars = chart.bars.flatMap(({ label, kind, value, low, high }, index) => {
    const middle = TOP + index * ROW_HEIGHT + ROW_HEIGHT / 2;
    const width = Math.max(1, scale(value) - LABEL_WIDTH);
    return [
      text(LABEL_WIDTH - 8, middle + 4, label, { anchor: 'end' }),
      `<rect x="${LABEL_WIDTH}" y="${fixed(middle - BAR_HEIGHT / 2)}" width="${fixed(width)}" ` +
        `height="${BAR_HEIGHT}" fill="${colourOf(kind, 0)}"/>`,
      `<line x1="${fixed(scale(low))}" y1="${fixed(middle)}" x2="${fixed(scale(high))}" ` +
        `y2="${fixed(middle)}" stroke="#1f2328" stroke-width="1.5"/>`,
      text(Math.max(scale(value), scale(high)) + 6, middle + 4, formatNumber(value)),
    ];
  });
  return svgDocument(WIDTH, height, chart.title, [
    text(12, 24, chart.title, { size: 14, bold: true }),
    ...grid,
    ...bars,
    text(WIDTH - 12, height - 10, chart.unit, { anchor: 'end', size: 11 }),
  ]);
}
