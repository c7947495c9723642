import { useMemo } from 'react';
import { formatCount } from '../amounts.js';
import { toFailure } from '../api.js';
import { AsOf } from '../components/AsOf.js';
import { Card } from '../components/Card.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { formatDay } from '../days.js';
import { usePolled } from '../polling.js';
import { useSession } from '../session.js';
import {
  CELL_STATES,
  type CoverageDay,
  cellStateOf,
  describeCell,
  toStretches,
  toWeeks,
} from './coverageCalendar.js';

const EVERY_MS = 5_000;
/** Stretches in words, the newest. */
const SHOWN_STRETCHES = 8;
const WEEKDAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

/** What is known of every UTC day, as a calendar. */
export function CoverageCard() {
  const { api } = useSession();
  const coverage = usePolled('operations.coverage', EVERY_MS, (signal) =>
    api.operations.coverage.query(undefined, { signal }),
  );
  const failure = coverage.error === null ? null : toFailure(coverage.error);
  const data = coverage.data;
  return (
    <Card
      title="Coverage"
      note={
        data &&
        `${formatDay(data.from)} to ${formatDay(data.until)}, UTC days${data.isCut ? '; older days are not shown' : ''}`
      }
      tools={
        <AsOf updatedAtMs={coverage.dataUpdatedAt} everyMs={EVERY_MS} failure={failure} onlyStale />
      }
    >
      {data === undefined ? (
        failure === null ? (
          <Loading what="the coverage" />
        ) : (
          <ErrorNotice failure={failure} what="The coverage is not available" />
        )
      ) : (
        <Calendar days={data.days} />
      )}
    </Card>
  );
}

function Calendar({ days }: { days: readonly CoverageDay[] }) {
  const weeks = useMemo(() => toWeeks(days), [days]);
  const stretches = useMemo(() => toStretches(days), [days]);
  const counts = new Map<string, number>();
  for (const day of days) counts.set(cellStateOf(day), (counts.get(cellStateOf(day)) ?? 0) + 1);
  return (
    <>
      <ul className="legend">
        {CELL_STATES.map((state) => (
          <li key={state}>
            <span className={`cell ${state}`} aria-hidden="true" />
            {state} <strong>{formatCount(counts.get(state) ?? 0)}</strong>
          </li>
        ))}
      </ul>
      <div className="coverage">
        <ScrollRegion label="Coverage calendar" className="calendar-scroll" startAtEnd>
          <table className={`calendar ${calendarSize(weeks.length)}`}>
            <thead>
              <tr>
                <td />
                {weeks.map((week) => (
                  <th key={weekKey(week)} scope="col">
                    <span>{week.month}</span>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {WEEKDAYS.map((weekday, row) => (
                <tr key={weekday}>
                  <th scope="row">{weekday}</th>
                  {weeks.map((week) => {
                    const day = week.days[row];
                    return (
                      <td key={weekKey(week)}>
                        {day && (
                          <span
                            className={`cell ${cellStateOf(day)}`}
                            role="img"
                            aria-label={describeCell(day)}
                            title={describeCell(day)}
                            data-day={day.day}
                            data-state={cellStateOf(day)}
                          />
                        )}
                      </td>
                    );
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollRegion>
        <div className="stretches">
          <h3>In words</h3>
          <ul>
            {stretches.slice(-SHOWN_STRETCHES).map(({ state, from, until, days: count }) => (
              <li key={from}>
                <strong>{state}</strong> {formatDay(from)}
                {from === until ? '' : ` to ${formatDay(until)}`}, {formatCount(count)}{' '}
                {count === 1 ? 'day' : 'days'}
              </li>
            ))}
          </ul>
          {stretches.length > SHOWN_STRETCHES && (
            <p className="muted">{formatCount(stretches.length - SHOWN_STRETCHES)} before these.</p>
          )}
        </div>
      </div>
    </>
  );
}

/** Few weeks are drawn larger. */
function calendarSize(weeks: number): string {
  return weeks <= 20 ? 'large' : weeks <= 60 ? 'medium' : 'small';
}

function weekKey(week: { days: ({ day: string } | null)[] }): string {
  return week.days.find((day) => day !== null)?.day ?? '';
}
