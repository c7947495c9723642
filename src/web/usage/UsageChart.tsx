import { useMemo, useState } from 'react';
import { StackedBars } from '../charts/StackedBars.js';
import { Name } from '../components/Name.js';
import { formatRange } from '../days.js';
import { COLORS, layerClass, toLayers, toOutline } from './layers.js';
import {
  formatAxisValue,
  formatExactValue,
  formatValue,
  type Metric,
  metricOf,
} from './metrics.js';
import { describePeriod, LABEL_STEPS, labelPeriod } from './periods.js';
import { type Group, keyOf, type Period, type UsageSeries } from './series.js';

/** Of the period that is read, the groups that are told beside the chart. */
const READ_GROUPS = 3;

/** Stacked bars over time, what is read above them, and which colour is what. */
export function UsageChart({
  series,
  metric,
  chosen,
  nameOf,
  onChoose,
}: {
  series: UsageSeries;
  metric: Metric;
  chosen: number;
  nameOf(group: Group): string;
  onChoose(start: string): void;
}) {
  const [read, setRead] = useState(-1);
  const layers = useMemo(() => toLayers(series, metric), [series, metric]);
  const outline = useMemo(() => toOutline(series, metric), [series, metric]);
  const { periods, grain } = series;
  const unfinished = periods.findIndex(({ isUnfinished }) => isUnfinished);
  const isOneYear =
    periods[0]?.start.slice(0, 4) === periods.at(-1)?.start.slice(0, 4) &&
    (unfinished >= 0 || periods.length === 0);
  const tell = (period: Period | undefined) =>
    period === undefined
      ? ''
      : `${describePeriod(period.start, grain)}: ${formatExactValue(metricOf(period.sums, metric), metric)}` +
        (period.isUnfinished ? ', not over yet' : '') +
        (outline === null
          ? ''
          : `; before: ${formatExactValue(metricBefore(period, metric), metric)}`);
  const now = read < periods.length ? periods[read] : undefined;
  return (
    <>
      <Readout
        series={series}
        period={now}
        metric={metric}
        nameOf={nameOf}
        isOutlined={outline !== null}
      />
      <StackedBars
        layers={layers}
        outline={outline}
        labels={(index, before) =>
          labelPeriod(
            periods[index]?.start ?? '',
            grain,
            before === null ? null : (periods[before]?.start ?? null),
            isOneYear,
          )
        }
        steps={LABEL_STEPS[grain]}
        label={`${metric} by ${grain}. ${summarize(series, metric, tell)}`}
        unfinished={unfinished}
        chosen={chosen}
        read={now === undefined ? -1 : read}
        leastStep={1}
        formatTick={(value, step) => formatAxisValue(value, step, metric)}
        describe={(index) => tell(periods[index])}
        onRead={setRead}
        onChoose={(index) => {
          const start = periods[index]?.start;
          if (start !== undefined) onChoose(start);
        }}
      />
      <Legend
        series={series}
        nameOf={nameOf}
        isUnfinished={unfinished >= 0}
        isOutlined={outline !== null}
      />
    </>
  );
}

function Readout({
  series,
  period,
  metric,
  nameOf,
  isOutlined,
}: {
  series: UsageSeries;
  period: Period | undefined;
  metric: Metric;
  nameOf(group: Group): string;
  isOutlined: boolean;
}) {
  if (period === undefined) {
    return (
      <div className="readout" aria-live="polite">
        <span className="muted">
          Point at a bar, or use the arrow keys; a click or Enter tells it in detail.
        </span>
      </div>
    );
  }
  const groups = series.groups
    .map((group, index) => ({ group, sums: period.groups[index] }))
    .filter(({ sums }) => sums !== undefined && metricOf(sums, metric) !== 0n)
    .slice(0, READ_GROUPS);
  const value = metricOf(period.sums, metric);
  return (
    <div className="readout" aria-live="polite" data-testid="readout">
      <span>{describePeriod(period.start, series.grain)}</span>
      <data className="readout-amount" value={String(value)} data-start={period.start}>
        {formatExactValue(value, metric)}
      </data>
      {period.isUnfinished && <span className="chip warning">not over yet</span>}
      {isOutlined && (
        <span className="muted">
          before{' '}
          <data data-testid="readout-before" value={String(metricBefore(period, metric))}>
            {formatExactValue(metricBefore(period, metric), metric)}
          </data>
        </span>
      )}
      {series.by !== null &&
        groups.map(({ group, sums }) => (
          <span key={nameOf(group)} className="readout-group">
            <Name text={nameOf(group)} isFocusable={false} />{' '}
            {sums === undefined ? '' : formatValue(metricOf(sums, metric), metric)}
          </span>
        ))}
    </div>
  );
}

function Legend({
  series,
  nameOf,
  isUnfinished,
  isOutlined,
}: {
  series: UsageSeries;
  nameOf(group: Group): string;
  isUnfinished: boolean;
  isOutlined: boolean;
}) {
  const told = series.by === null ? [] : series.groups.slice(0, COLORS);
  const hasOther = series.by !== null && series.groups.length > told.length;
  return (
    <ul className="legend" aria-label="Colours">
      {told.map((group, index) => (
        <li key={keyOf(group)}>
          <span className={`legend-mark ${layerClass(index, group.isOther)}`} aria-hidden="true" />
          <Name text={nameOf(group)} isFocusable={false} />
        </li>
      ))}
      {hasOther && told.every(({ isOther }) => !isOther) && (
        <li>
          <span className="legend-mark layer-other" aria-hidden="true" />
          Other
        </li>
      )}
      {isUnfinished && (
        <li>
          <span className="legend-mark legend-hatched" aria-hidden="true" />
          not over yet
        </li>
      )}
      {isOutlined && series.previous !== null && (
        <li>
          <span className="legend-dashed" aria-hidden="true" />
          before: {formatRange(series.previous.range)}
        </li>
      )}
    </ul>
  );
}

function summarize(
  series: UsageSeries,
  metric: Metric,
  tell: (period: Period | undefined) => string,
): string {
  let largest = series.periods[0];
  for (const period of series.periods) {
    if (largest !== undefined && metricOf(period.sums, metric) > metricOf(largest.sums, metric)) {
      largest = period;
    }
  }
  return `Total ${formatExactValue(metricOf(series.total, metric), metric)}; most: ${tell(largest)}.`;
}

function metricBefore({ previous }: Period, metric: Metric): bigint {
  return previous === undefined ? 0n : metricOf(previous, metric);
}
