/** Further than this from what the clock says now, a clock was set in between. */
const MAX_DRIFT_MS = 5 * 60_000;

export interface Start {
  at: Date;
  /** What the clock said at the start, where that is not what is kept. */
  stated: Date | null;
}

/**
 * When a call began. The ledger refuses times that lie ahead, and a clock may be set while a call is
 * under way: then the time by the clock of now, less what a clock that nobody sets has measured.
 */
export function startOf(startedAt: Date, elapsedMs: number, now: Date): Start {
  const measured = now.getTime() - Math.max(0, elapsedMs);
  const isAhead = startedAt.getTime() > now.getTime();
  if (!isAhead && Math.abs(startedAt.getTime() - measured) <= MAX_DRIFT_MS) {
    return { at: startedAt, stated: null };
  }
  return { at: new Date(measured), stated: startedAt };
}
