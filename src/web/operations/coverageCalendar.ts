import { formatDay, formatMonth, weekdayOf } from '../days.js';

export interface CoverageDay {
  day: string;
  /** `empty`: no usage, and nothing to build. */
  state: 'empty' | 'unbuilt' | 'building' | 'built' | 'verified' | 'archived';
  rawRows: number | null;
  driftKeys: number;
}

/** What a cell shows; drift comes before everything else. */
export type CellState = CoverageDay['state'] | 'drift';

export const CELL_STATES: readonly CellState[] = [
  'unbuilt',
  'building',
  'built',
  'verified',
  'archived',
  'drift',
  'empty',
];

export interface Week<Day> {
  /** Monday first; null outside of the range. */
  days: (Day | null)[];
  /** Named above the first week that holds a first of a month. */
  month: string | null;
}

export function cellStateOf(day: CoverageDay): CellState {
  return day.driftKeys > 0 ? 'drift' : day.state;
}

/** Columns of a calendar, one a week, oldest first. */
export function toWeeks<Day extends { day: string }>(days: readonly Day[]): Week<Day>[] {
  const weeks: Week<Day>[] = [];
  for (const day of days) {
    const weekday = weekdayOf(day.day);
    let week = weeks.at(-1);
    if (week === undefined || weekday === 0) {
      week = { days: Array.from({ length: 7 }, () => null), month: null };
      weeks.push(week);
    }
    week.days[weekday] = day;
    if (day.day.endsWith('-01')) week.month = formatMonth(day.day);
  }
  return weeks;
}

/** Stretches of days in one state, for those who do not see colours, or do not see. */
export function toStretches(
  days: readonly CoverageDay[],
): { state: CellState; from: string; until: string; days: number }[] {
  const stretches: { state: CellState; from: string; until: string; days: number }[] = [];
  for (const day of days) {
    const state = cellStateOf(day);
    const last = stretches.at(-1);
    if (last?.state === state) {
      last.until = day.day;
      last.days++;
    } else {
      stretches.push({ state, from: day.day, until: day.day, days: 1 });
    }
  }
  return stretches;
}

export function describeCell(day: CoverageDay): string {
  if (day.state === 'empty') return `${formatDay(day.day)}: no usage`;
  const rows = day.rawRows === null ? 'never counted' : `${day.rawRows} rows`;
  const drift = day.driftKeys > 0 ? `, drift in ${day.driftKeys} totals` : '';
  return `${formatDay(day.day)}: ${day.state}, ${rows}${drift}`;
}
