const NICE = [1, 2, 2.5, 5, 10];

export interface Ticks {
  /** Distance of two. */
  step: number;
  values: number[];
  /** The scale, from the lowest tick to the highest. */
  low: number;
  high: number;
}

/** About `count` round values that span low to high; `leastStep` 1 for what comes whole. */
export function niceTicks(low: number, high: number, count: number, leastStep = 1): Ticks {
  const span = high - low || leastStep;
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const factor = NICE.find((nice) => nice * power >= raw * (1 - 1e-9)) ?? 10;
  const nice = factor * power;
  const step = nice < leastStep ? leastStep : leastStep === 1 ? Math.ceil(nice) : nice;
  const first = Math.floor(low / step);
  const last = Math.max(first + 1, Math.ceil(high / step));
  const values = Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
  return { step, values, low: first * step, high: last * step };
}

/** The smallest of `steps` at which labels of this width do not touch. */
export function labelStep(steps: readonly number[], bandPx: number, labelPx: number): number {
  return steps.find((step) => step * bandPx >= labelPx) ?? steps.at(-1) ?? 1;
}

/** Width of a label in the chart's type, from above, px; also in a type as wide as DejaVu Sans. */
export function textWidth(text: string): number {
  return text.length * 7 + (text.match(/[mwMW]/g)?.length ?? 0) * 5 + 4;
}

/** Where a label may stand without being cut: its anchor, at its place. */
export function anchorAt(x: number, widthPx: number, leftPx: number, rightPx: number) {
  if (x - widthPx / 2 < leftPx) return { x: leftPx, textAnchor: 'start' as const };
  if (x + widthPx / 2 > rightPx) return { x: rightPx, textAnchor: 'end' as const };
  return { x, textAnchor: 'middle' as const };
}
