import { type KeyboardEvent, useMemo, useRef, useState } from 'react';
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

/** What is known of every UTC day, as a calendar whose days lead to their verification. */
export function CoverageCard({ onVerify }: { onVerify(day: string): void }) {
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
        <Calendar days={data.days} onVerify={onVerify} />
      )}
    </Card>
  );
}

/** Days that the arrow keys reach from one. */
const STEPS: Record<string, number> = {
  ArrowUp: -1,
  ArrowDown: 1,
  ArrowLeft: -7,
  ArrowRight: 7,
};

function Calendar({
  days,
  onVerify,
}: {
  days: readonly CoverageDay[];
  onVerify(day: string): void;
}) {
  const table = useRef<HTMLTableElement>(null);
  // One of them is in the order of Tab; the arrow keys go on from there.
  const [current, setCurrent] = useState(days.at(-1)?.day ?? '');
  const tabbed = days.some(({ day }) => day === current) ? current : days.at(-1)?.day;

  function onKeyDown(event: KeyboardEvent): void {
    const step = STEPS[event.key];
    if (step === undefined) return;
    const at = days.findIndex(({ day }) => day === tabbed);
    const next = days[Math.min(days.length - 1, Math.max(0, at + step))]?.day;
    if (next === undefined) return;
    event.preventDefault();
    setCurrent(next);
    table.current?.querySelector<HTMLElement>(`[data-day="${next}"]`)?.focus();
  }

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
          <table
            ref={table}
            className={`calendar ${calendarSize(weeks.length)}`}
            onKeyDown={onKeyDown}
          >
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
                          <button
                            type="button"
                            className={`cell ${cellStateOf(day)}`}
                            tabIndex={day.day === tabbed ? 0 : -1}
                            aria-label={describeCell(day)}
                            title={describeCell(day)}
                            data-day={day.day}
                            data-state={cellStateOf(day)}
                            onFocus={() => setCurrent(day.day)}
                            onClick={() => onVerify(day.day)}
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
          <p className="muted">A day leads to its verification.</p>
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
