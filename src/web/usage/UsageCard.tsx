import { useLayoutEffect, useMemo, useRef } from 'react';
import { toFailure } from '../api.js';
import { useNowMs } from '../clock.js';
import { Card } from '../components/Card.js';
import { ErrorNotice, Loading, NotRenewed } from '../components/Notice.js';
import { formatRange } from '../days.js';
import { dayIn, describeZone } from '../zones.js';
import { ActiveFilters } from './ActiveFilters.js';
import { ForecastPanel } from './ForecastPanel.js';
import { METRIC_CHOICES } from './metrics.js';
import { createNameOf } from './names.js';
import { PairsTable } from './PairsTable.js';
import { toPairs } from './pairs.js';
import { rangeProblem } from './ranges.js';
import { SeriesView } from './SeriesView.js';
import { type Organization, scopeName } from './scopes.js';
import { Toolbar } from './Toolbar.js';
import type { UsageState } from './usageState.js';
import { isOrganization, pairOf, rangeOf } from './usageState.js';
import { useUsageReport } from './useUsageReport.js';

/** Usage by period and group: the view's state decides whose, of what, and when. */
export function UsageCard({
  state,
  remark,
  onChange,
  kiloUserId,
  organizations,
  balances,
  keyNames,
}: {
  state: UsageState;
  /** What of the URL is not shown, and why. */
  remark: string | null;
  onChange(change: Partial<UsageState>): void;
  kiloUserId: string;
  /** Null: not known yet. */
  organizations: readonly Organization[] | null;
  /** What is left, by scope; microdollars. */
  balances: ReadonlyMap<string, bigint>;
  /** What keys are called, by id. */
  keyNames: ReadonlyMap<string, string>;
}) {
  const nowMs = useNowMs();
  const today = dayIn(nowMs, state.zone);
  const range = rangeOf(state, today);
  const problem = rangeProblem(range);
  const pair = pairOf(state);
  const isShared = isOrganization(state);
  const isOwner = organizations?.find(({ id }) => id === state.scope)?.role === 'owner';
  const { report, series, memberNames } = useUsageReport(state, range, {
    kiloUserId,
    isOwner,
    // Whether one is its owner decides what to ask for.
    isEnabled: problem === null && (!isShared || organizations !== null),
  });
  const nameOf = useMemo(() => createNameOf(keyNames, memberNames), [keyNames, memberNames]);
  const body = useRef<HTMLDivElement>(null);
  // While the next answer is awaited it stays as high as it was: nothing below jumps.
  const shownPx = useRef<number | null>(null);
  useLayoutEffect(() => {
    if (series !== null) shownPx.current = body.current?.offsetHeight ?? null;
  });
  const isAwaited = problem === null && series === null && report.error === null;
  const pairs = report.data?.pairs;
  const metric = METRIC_CHOICES.find(({ id }) => id === state.metric)?.text ?? '';
  const scope = organizations === null ? '' : scopeName(state.scope, organizations);
  const payer = organizations?.length === 0 && !isShared ? 'personal' : state.scope;
  return (
    <Card
      title={metric}
      note={
        problem === null ? (
          <>
            {formatRange(range)} · {describeZone(state.zone, nowMs)}
            {scope !== '' && (
              <>
                {' '}
                · <bdi>{scope}</bdi>
              </>
            )}
          </>
        ) : (
          problem
        )
      }
      className="usage"
    >
      <Toolbar
        state={state}
        range={range}
        organizations={organizations ?? []}
        isOwner={isOwner}
        onChange={onChange}
      />
      {remark !== null && (
        <p className="notice" role="status">
          {remark}
        </p>
      )}
      <ActiveFilters state={state} nameOf={nameOf} onChange={onChange} />
      <div
        className="usage-body"
        ref={body}
        aria-busy={report.isFetching}
        style={isAwaited && shownPx.current !== null ? { minHeight: shownPx.current } : undefined}
      >
        {problem !== null ? null : series !== null ? (
          <>
            {report.error !== null && <NotRenewed failure={toFailure(report.error)} />}
            <SeriesView
              key={series.by}
              series={series}
              state={state}
              scopeName={scope}
              nameOf={nameOf}
              onChange={onChange}
            />
            {pair !== null && pairs !== undefined && (
              <PairsTable
                pairs={toPairs(pairs)}
                by={pair}
                series={series}
                metric={state.metric}
                nameOf={nameOf}
              />
            )}
            <ForecastPanel
              series={series}
              state={state}
              kiloUserId={kiloUserId}
              isOwner={isOwner}
              today={today}
              balanceMicrodollars={
                state.key === null && state.member === null && (!isShared || isOwner)
                  ? (balances.get(payer) ?? null)
                  : null
              }
            />
          </>
        ) : report.error !== null ? (
          <ErrorNotice
            failure={toFailure(report.error)}
            what="Usage is not available"
            onRetry={() => report.refetch()}
          />
        ) : (
          <Loading what="usage" />
        )}
      </div>
    </Card>
  );
}
