import { useCallback, useMemo } from 'react';
import { useSearchParams } from 'react-router';
import { toMicrodollars } from '../../money.js';
import { useChangeSearch } from '../search.js';
import { REQUESTS_AFTER } from '../usage/usageState.js';

export const STATUSES = ['ok', 'error', 'refund'] as const;
export type Status = (typeof STATUSES)[number];

/** Filters of the list and what is open, in the URL beside the usage report's state. */
export interface RequestState {
  model: string;
  /** What this key paid for; the whole view may be narrowed to one besides. */
  key: string | null;
  status: Status | null;
  /** USD as typed. */
  min: string;
  max: string;
  /** Where the page begins: `next` of the one before. */
  after: string | null;
  /** Id of the request that is told in detail. */
  open: string | null;
}

const NAMES: Record<keyof RequestState, string> = {
  model: 'rmodel',
  key: 'rkey',
  status: 'rstatus',
  min: 'rmin',
  max: 'rmax',
  after: REQUESTS_AFTER,
  open: 'request',
};

function readRequestState(search: URLSearchParams): RequestState {
  const text = (name: keyof RequestState) => search.get(NAMES[name]);
  return {
    model: text('model') ?? '',
    key: text('key'),
    status: STATUSES.find((status) => status === text('status')) ?? null,
    min: text('min') ?? '',
    max: text('max') ?? '',
    after: text('after'),
    open: text('open'),
  };
}

function writeRequestState(
  search: URLSearchParams,
  change: Partial<RequestState>,
): URLSearchParams {
  const next = new URLSearchParams(search);
  for (const [name, value] of Object.entries(change)) {
    const parameter = NAMES[name as keyof RequestState];
    if (value === null || value === '') next.delete(parameter);
    else next.set(parameter, value);
  }
  return next;
}

export function useRequestState(): [RequestState, (change: Partial<RequestState>) => void] {
  const [search] = useSearchParams();
  const changeSearch = useChangeSearch();
  const state = useMemo(() => readRequestState(search), [search]);
  const change = useCallback(
    (changed: Partial<RequestState>) =>
      changeSearch((before) => writeRequestState(before, changed)),
    [changeSearch],
  );
  return [state, change];
}

type TypedAmount = ReturnType<typeof readAmount>;

/** What is wrong with the costs as typed, and what to do; null = they can be asked for. */
export function costProblem(min: TypedAmount, max: TypedAmount): string | null {
  if (min === undefined || max === undefined) {
    return 'A cost is an amount in USD with at most six decimals, like 0.0025.';
  }
  return min !== null && max !== null && min > max
    ? 'The first cost is more than the second; swap them.'
    : null;
}

/** Microdollars of an amount as typed; null = none given, undefined = not an amount. */
export function readAmount(text: string): number | null | undefined {
  const trimmed = text.trim().replace(/^\$/, '');
  if (trimmed === '') return null;
  if (!/^-?\d{0,9}(\.\d{0,6})?$/.test(trimmed) || !/\d/.test(trimmed)) return undefined;
  const amount = toMicrodollars(trimmed);
  return Math.abs(amount) <= 1_000_000_000_000 ? amount : undefined;
}
