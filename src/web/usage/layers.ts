import type { Layer } from '../charts/layer.js';
import { type Metric, metricOf } from './metrics.js';
import type { UsageSeries } from './series.js';

/** Colours of groups; what is beyond them is drawn as "other". */
export const COLORS = 8;

/** `layer-1` to `layer-8`, and `layer-other`. */
export function layerClass(index: number, isOther: boolean): string {
  return isOther || index >= COLORS ? 'layer-other' : `layer-${index + 1}`;
}

/** What the chart stacks, the largest group at the bottom. */
export function toLayers(series: UsageSeries, metric: Metric): Layer[] {
  const layers = new Map<string, number[]>();
  for (const [index, group] of series.groups.entries()) {
    const className = layerClass(index, group.isOther);
    let values = layers.get(className);
    if (values === undefined) {
      values = series.periods.map(() => 0);
      layers.set(className, values);
    }
    for (const [at, period] of series.periods.entries()) {
      const sums = period.groups[index];
      if (sums !== undefined) values[at] = (values[at] ?? 0) + Number(metricOf(sums, metric));
    }
  }
  return [...layers].map(([className, values]) => ({ key: className, className, values }));
}

/** What the chart draws over them: the days before. Null: not compared, or nothing then. */
export function toOutline(series: UsageSeries, metric: Metric): number[] | null {
  if (series.periods.every(({ previous }) => previous === undefined)) return null;
  return series.periods.map(({ previous }) =>
    previous === undefined ? 0 : Number(metricOf(previous, metric)),
  );
}
