import type { Kind, LineChart } from '../scenario.js';
import { colourOf, fixed, formatNumber, svgDocument, text, ticksUpTo } from './svg.js';

const WIDTH = 860;
const PLOT = { left: 76, right: 24, top: 44, height: 260 };
const LEGEND_ROW = 20;

/** Lines from zero on both axes; the legend below names them. */
export function renderLineChart(chart: LineChart): string {
  const points = chart.lines.flatMap((line) => line.points);
  const xTicks = ticksUpTo(Math.max(...points.map(([x]) => x)));
  const yTicks = ticksUpTo(Math.max(...points.map(([, y]) => y)));
  const bottom = PLOT.top + PLOT.height;
  const toX = (x: number) =>
    PLOT.left + (x / (xTicks.at(-1) ?? 1)) * (WIDTH - PLOT.left - PLOT.right);
  const toY = (y: number) => bottom - (y / (yTicks.at(-1) ?? 1)) * PLOT.height;
  const grid = [
    ...yTicks.flatMap((tick) => [
      `<line x1="${PLOT.left}" y1="${fixed(toY(tick))}" x2="${WIDTH - PLOT.right}" ` +
        `y2="${fixed(toY(tick))}" stroke="#d0d7de"/>`,
      text(PLOT.left - 8, toY(tick) + 4, formatNumber(tick), { anchor: 'end', size: 11 }),
    ]),
    ...xTicks.map((tick) =>
      text(toX(tick), bottom + 18, formatNumber(tick), { anchor: 'middle', size: 11 }),
    ),
    text(WIDTH - PLOT.right, bottom + 36, chart.xLabel, { anchor: 'end', size: 11 }),
    text(12, PLOT.top - 6, chart.yLabel, { size: 11 }),
  ];
  const colours = coloursOf(chart.lines.map((line) => line.kind));
  const lines = chart.lines.flatMap((line, index) => {
    const colour = colours[index] as string;
    const path = line.points.map(([x, y]) => `${fixed(toX(x))},${fixed(toY(y))}`).join(' ');
    const legendY = bottom + 56 + index * LEGEND_ROW;
    return [
      `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      `<rect x="${PLOT.left}" y="${legendY - 9}" width="18" height="6" fill="${colour}"/>`,
      text(PLOT.left + 26, legendY, line.label),
    ];
  });
  const height = bottom + 56 + chart.lines.length * LEGEND_ROW;
  return svgDocument(WIDTH, height, chart.title, [
    text(12, 24, chart.title, { size: 14, bold: true }),
    ...grid,
    ...lines,
  ]);
}

/** Kinds keep their colour family; lines of a kind differ within it. */
function coloursOf(kinds: readonly Kind[]): string[] {
  const used: Record<Kind, number> = { ours: 0, alternative: 0, limit: 0 };
  return kinds.map((kind) => colourOf(kind, used[kind]++));
}
