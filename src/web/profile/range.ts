import { isDay, shiftDays, threeMonthsBefore } from '../days.js';

export type Preset = '7d' | '30d' | '3m' | 'custom';

export const PRESETS: readonly { id: Preset; text: string }[] = [
  { id: '7d', text: '7 d' },
  { id: '30d', text: '30 d' },
  { id: '3m', text: '3 months' },
  { id: 'custom', text: 'Custom' },
];

/** UTC days, both inclusive. */
export interface DayRange {
  from: string;
  until: string;
}

/** As `usage.daily` allows: three years. */
export const MAX_RANGE_DAYS = 1_100;

export function presetRange(preset: Exclude<Preset, 'custom'>, today: string): DayRange {
  if (preset === '7d') return { from: shiftDays(today, -6), until: today };
  if (preset === '30d') return { from: shiftDays(today, -29), until: today };
  return { from: threeMonthsBefore(today), until: today };
}

/** What is wrong with a range, in words; null when it can be asked for. */
export function rangeProblem({ from, until }: DayRange): string | null {
  if (!isDay(from) || !isDay(until)) return 'Choose both days.';
  if (from > until) return 'The first day lies after the last; swap them.';
  if (shiftDays(from, MAX_RANGE_DAYS - 1) < until) return 'Choose three years at most.';
  return null;
}
