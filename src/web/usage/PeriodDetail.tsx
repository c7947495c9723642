import { useEffect, useRef } from 'react';
import { Button } from 'react-aria-components';
import { Empty } from '../components/Notice.js';
import { type GroupRow, GroupTable } from './GroupTable.js';
import { hasUsage, type Metric } from './metrics.js';
import { describePeriod } from './periods.js';
import type { Group, Period, UsageSeries } from './series.js';

/** One period by group: what the chart has of it, so it is there without asking. */
export function PeriodDetail({
  series,
  period,
  metric,
  nameOf,
  onClose,
}: {
  series: UsageSeries;
  period: Period;
  metric: Metric;
  nameOf(group: Group): string;
  onClose(): void;
}) {
  const region = useRef<HTMLElement>(null);
  useEffect(() => region.current?.scrollIntoView({ block: 'nearest' }), []);
  const rows: GroupRow[] = series.groups.flatMap((group, index) => {
    const sums = period.groups[index];
    return sums === undefined ? [] : [{ group, sums, index }];
  });
  const title = describePeriod(period.start, series.grain);
  return (
    <section className="period-detail" aria-label={`${title} in detail`} ref={region}>
      <div className="section-head">
        <h3>
          {title} <span className="muted">({series.zone})</span>{' '}
          {period.isUnfinished && <span className="chip warning">not over yet</span>}
        </h3>
        <Button className="button small quiet" onPress={onClose}>
          Close
        </Button>
      </div>
      {hasUsage(period.sums) ? (
        <GroupTable
          label={`${title} by ${series.by ?? 'nothing'}`}
          by={series.by ?? 'model'}
          rows={series.by === null ? [] : rows}
          total={period.sums}
          metric={metric}
          nameOf={nameOf}
        />
      ) : (
        <Empty title="No usage in this period" />
      )}
    </section>
  );
}
