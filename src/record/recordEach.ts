import type { BatchResult, RecordedEvent, UsageEvent } from './types.js';

/**
 * A batch is so many calls, made together: they travel together, and each has an answer of its own, in
 * order. One bad event never fails its neighbours.
 */
export async function recordEach<Result extends RecordedEvent>(
  events: readonly UsageEvent[],
  record: (event: UsageEvent) => Promise<Result>,
): Promise<BatchResult<Result>[]> {
  const settled = await Promise.allSettled(events.map(record));
  return settled.map((outcome, index) =>
    outcome.status === 'fulfilled'
      ? outcome.value
      : { id: events[index]?.id ?? null, status: 'rejected', error: outcome.reason as Error },
  );
}
