import { useEffect, useState } from 'react';
import type { Failure } from '../api.js';
import { formatSpan } from '../days.js';

/** Data older than this many polls is called stale. */
const STALE_POLLS = 3;

/** How old what one sees is, and why if it is not being renewed. */
export function AsOf({
  updatedAtMs,
  everyMs,
  failure,
  onlyStale = false,
}: {
  /** 0: nothing yet. */
  updatedAtMs: number;
  everyMs: number;
  failure: Failure | null;
  /** Nothing while it is live, for parts of a page that says so already. */
  onlyStale?: boolean;
}) {
  const nowMs = useClock(1_000);
  if (updatedAtMs === 0) return onlyStale ? null : <span className="as-of">no data yet</span>;
  const ageMs = Math.max(0, nowMs - updatedAtMs);
  const isStale = failure !== null || ageMs > everyMs * STALE_POLLS;
  if (onlyStale && !isStale) return null;
  return (
    <span className={`as-of ${isStale ? 'stale' : 'live'}`} data-stale={isStale}>
      <span className="as-of-dot" aria-hidden="true" />
      {isStale ? 'Stale: as of ' : 'Live: as of '}
      {formatSpan(ageMs / 1_000)} ago
      {failure !== null && ` (${failure.message}); trying again`}
    </span>
  );
}

function useClock(everyMs: number): number {
  const [nowMs, setNowMs] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNowMs(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return nowMs;
}
