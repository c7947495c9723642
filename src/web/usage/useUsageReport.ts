import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { useNowMs } from '../clock.js';
import { useSession } from '../session.js';
import { metricOf } from './metrics.js';
import { tellApart } from './names.js';
import type { DayRange } from './ranges.js';
import { toSeries } from './series.js';
import { toReportQuery, toScope, type UsageState } from './usageState.js';

/** The series of a state, and what its members are called; what is of another state is never in its place. */
export function useUsageReport(
  state: UsageState,
  range: DayRange,
  of: { kiloUserId: string; isOwner: boolean; isEnabled: boolean },
) {
  const { api } = useSession();
  const nowMs = useNowMs();
  const input = { ...toReportQuery(state, range), ...toScope(state, of.kiloUserId, of.isOwner) };
  const report = useQuery({
    queryKey: ['usage.report', input],
    queryFn: ({ signal }) => api.usage.report.query(input, { signal }),
    enabled: of.isEnabled,
  });
  const { metric } = state;
  const series = useMemo(
    () =>
      report.data === undefined
        ? null
        : toSeries(report.data, nowMs, (sums) => metricOf(sums, metric)),
    [report.data, nowMs, metric],
  );
  const memberNames = useMemo(
    () =>
      tellApart(
        Object.entries(report.data?.member_names ?? {}).map(([id, name]) => ({
          id,
          name,
          hint: id,
        })),
      ),
    [report.data],
  );
  return { report, series, memberNames };
}
