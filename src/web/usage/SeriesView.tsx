import { useEffect, useRef, useState } from 'react';
import { Button } from 'react-aria-components';
import { describeChange, formatPlural } from '../amounts.js';
import { FocusableAmount } from '../components/Amount.js';
import { Empty } from '../components/Notice.js';
import { Segments } from '../components/Segments.js';
import { formatRange } from '../days.js';
import { downloadCsv } from '../download.js';
import { useExactAmounts } from '../exactAmounts.js';
import { CopyLink } from './CopyLink.js';
import { GroupTable } from './GroupTable.js';
import { formatExactValue, formatValue, hasUsage, type Metric, metricOf } from './metrics.js';
import type { NameOf } from './names.js';
import { PeriodDetail } from './PeriodDetail.js';
import { PeriodTable } from './PeriodTable.js';
import { largestTop, TOPS } from './ranges.js';
import type { Group, UsageSeries } from './series.js';
import { UsageChart } from './UsageChart.js';
import { csvFileName, toCsv } from './usageCsv.js';
import type { Form, UsageState } from './usageState.js';

const FORMS: readonly { id: Form; text: string }[] = [
  { id: 'chart', text: 'Chart' },
  { id: 'table', text: 'Table' },
];

/** One series: total, chart or table, a period in detail, the largest groups. */
export function SeriesView({
  series,
  state,
  scopeName,
  nameOf,
  onChange,
}: {
  series: UsageSeries;
  state: UsageState;
  scopeName: string;
  nameOf: NameOf;
  onChange(change: Partial<UsageState>): void;
}) {
  const body = useRef<HTMLDivElement>(null);
  const [isClosing, setClosing] = useState(false);
  const name = (group: Pick<Group, 'id' | 'isOther'>) => nameOf(series.by, group);
  const chosen = series.periods.findIndex(({ start }) => start === state.at);
  const period = series.periods[chosen];
  const active = series.periods.filter(({ sums }) => hasUsage(sums)).length;

  useEffect(() => {
    if (!isClosing || state.at !== null) return;
    // To where the period was chosen from.
    body.current?.querySelector<HTMLElement>('[role=slider], [data-return]')?.focus();
    setClosing(false);
  }, [isClosing, state.at]);

  function close() {
    setClosing(true);
    onChange({ at: null });
  }

  function pick({ id }: Group) {
    if (id === null) return;
    if (series.by === 'key') onChange({ key: id, by: 'model', at: null });
    if (series.by === 'member') onChange({ member: id, by: 'model', at: null });
  }

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: Escape closes, wherever the focus is in it
    <div
      className="series"
      ref={body}
      onKeyDown={(event) => {
        if (event.key === 'Escape' && period !== undefined) close();
      }}
    >
      <div className="spend-head">
        <div>
          <p className="spend-total">
            <Total value={metricOf(series.total, state.metric)} metric={state.metric} />
            <span className="figure-unit">
              total, {active} of {formatPlural(series.periods.length, series.grain)} with usage
            </span>
          </p>
          <Previous series={series} metric={state.metric} />
        </div>
        <div className="spend-tools">
          <Segments
            label="Form"
            choices={FORMS}
            chosen={state.form}
            onChoose={(form) => onChange({ form })}
          />
          <CopyLink state={state} series={series} onChange={onChange} />
          <Button
            className="button"
            onPress={() =>
              downloadCsv(
                csvFileName(series),
                toCsv(series, { scope: scopeName, nameOf: (group) => name(group) }),
              )
            }
          >
            Download CSV
          </Button>
        </div>
      </div>
      {state.form === 'table' ? (
        <PeriodTable series={series} chosen={chosen} onChoose={(at) => onChange({ at })} />
      ) : hasUsage(series.total) ? (
        <UsageChart
          series={series}
          metric={state.metric}
          chosen={chosen}
          nameOf={name}
          onChoose={(at) => onChange({ at })}
        />
      ) : (
        <Empty title="No usage in this range">
          <p>Choose a longer range or another scope.</p>
        </Empty>
      )}
      {period !== undefined && (
        <PeriodDetail
          series={series}
          period={period}
          metric={state.metric}
          nameOf={name}
          onClose={close}
        />
      )}
      {series.by !== null && series.groups.length > 0 && (
        <section aria-label="Largest">
          <div className="section-head">
            <h3>Largest by {state.metric}</h3>
            {series.groups.some(({ isOther }) => isOther) &&
              state.top < Math.min(TOPS[1], largestTop(series.range, series.grain)) && (
                <Button className="button small quiet" onPress={() => onChange({ top: TOPS[1] })}>
                  Tell more apart
                </Button>
              )}
          </div>
          <GroupTable
            label="Largest groups"
            by={series.by}
            rows={series.groups.map((group, index) => ({ group, sums: group.sums, index }))}
            total={series.total}
            metric={state.metric}
            nameOf={name}
            {...(series.by === 'key' || series.by === 'member' ? { onPick: pick } : {})}
          />
        </section>
      )}
    </div>
  );
}

function Total({ value, metric }: { value: bigint; metric: Metric }) {
  if (metric === 'cost') return <FocusableAmount microdollars={value} />;
  return (
    <data className="amount" value={String(value)}>
      {formatValue(value, metric)}
    </data>
  );
}

function Previous({ series, metric }: { series: UsageSeries; metric: Metric }) {
  const { isExact } = useExactAmounts();
  if (series.previous === null) return null;
  const { range, total } = series.previous;
  const before = metricOf(total, metric);
  const change = describeChange(metricOf(series.total, metric), before);
  const format = isExact ? formatExactValue : formatValue;
  return (
    <p className="card-note" data-testid="previous">
      {change === null ? 'Before: ' : `${change} `}
      <data value={String(before)}>{format(before, metric)}</data>{' '}
      {range.from === range.until ? 'on' : 'from'} {formatRange(range)}
      {change !== null && series.periods.some(({ isUnfinished }) => isUnfinished)
        ? ', whole days; today is not over'
        : ''}
    </p>
  );
}
