import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { formatPlural } from '../amounts.js';
import { toFailure } from '../api.js';
import { Amount } from '../components/Amount.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { formatMonth } from '../days.js';
import { useSession } from '../session.js';
import { BURN_DAYS, daysOfBalance, forecastMonth, forecastRange } from './forecast.js';
import type { UsageSeries } from './series.js';
import { toScope, type UsageState } from './usageState.js';

/** Of the month that is not over: spent, the daily mean, and what it comes to. */
export function ForecastPanel({
  series,
  state,
  kiloUserId,
  isOwner,
  today,
  balanceMicrodollars,
}: {
  series: UsageSeries;
  state: UsageState;
  kiloUserId: string;
  isOwner: boolean;
  today: string;
  /** What is left of whoever pays, where one payer is shown. */
  balanceMicrodollars: bigint | null;
}) {
  const { api } = useSession();
  const range = forecastRange(today);
  const isShown =
    series.grain === 'day' && series.range.from <= range.from && series.range.until >= range.until;
  const input = {
    ...range,
    grain: 'day',
    zone: state.zone,
    ...(state.key === null ? {} : { api_key_id: state.key }),
    ...toScope(state, kiloUserId, isOwner),
  };
  const asked = useQuery({
    queryKey: ['usage.report', input],
    queryFn: ({ signal }) => api.usage.report.query(input, { signal }),
    // What is on the screen is not asked for again.
    enabled: !isShown,
  });
  const forecast = useMemo(() => {
    if (isShown) {
      return forecastMonth(
        new Map(series.periods.map(({ start, sums }) => [start, sums.cost_microdollars])),
        today,
      );
    }
    if (asked.data === undefined) return null;
    return forecastMonth(
      new Map(asked.data.rows.map((row) => [row.start, BigInt(row.cost_microdollars)])),
      today,
    );
  }, [isShown, series, asked.data, today]);

  if (forecast === null) {
    return asked.error === null ? (
      <Loading what="the month" />
    ) : (
      <ErrorNotice failure={toFailure(asked.error)} what="The month's forecast is not available" />
    );
  }
  const balanceDays =
    balanceMicrodollars === null
      ? null
      : daysOfBalance(balanceMicrodollars, forecast.burnMicrodollarsPerDay);
  return (
    <section className="forecast" aria-label="Forecast of the month">
      <h3>{formatMonth(forecast.month.from)}</h3>
      <dl className="forecast-figures">
        <div>
          <dt>Spent so far</dt>
          <dd>
            <Amount microdollars={forecast.spentMicrodollars} />
          </dd>
        </div>
        <div>
          <dt>Burn rate</dt>
          <dd>
            <Amount microdollars={forecast.burnMicrodollarsPerDay} /> a day
          </dd>
        </div>
        <div>
          <dt>Forecast of the month</dt>
          <dd data-testid="forecast">
            <Amount microdollars={forecast.expectedMicrodollars} />
          </dd>
        </div>
        {balanceDays !== null && (
          <div>
            <dt>Balance lasts</dt>
            <dd>
              {balanceDays > 730 ? 'over two years' : `about ${formatPlural(balanceDays, 'day')}`}
            </dd>
          </div>
        )}
      </dl>
      <p className="card-note">
        Method: spent before today, plus the mean of the last {BURN_DAYS} whole days for today (or
        what it has spent, if that is more) and for each of the{' '}
        {formatPlural(forecast.daysLeft, 'day')} left. No trend, no weekday pattern.
      </p>
    </section>
  );
}
