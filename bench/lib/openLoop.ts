import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Calls at a fixed rate, whether or not earlier ones have been answered, as requests come in. The
 * time of a call counts from the moment it was due: waiting for a connection is part of it.
 */
export async function atRate(
  callsPerSecond: number,
  durationMs: number,
  call: () => Promise<unknown>,
): Promise<{ timesMs: number[]; failures: string[] }> {
  const timesMs: number[] = [];
  const failures: string[] = [];
  const inFlight: Promise<void>[] = [];
  const startedAt = performance.now();
  const calls = Math.round((durationMs * callsPerSecond) / 1_000);
  for (let index = 0; index < calls; index++) {
    const dueAt = startedAt + (index * 1_000) / callsPerSecond;
    const waitMs = dueAt - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    inFlight.push(
      call().then(
        () => {
          timesMs.push(performance.now() - dueAt);
        },
        (error: Error) => {
          failures.push(error.message);
        },
      ),
    );
  }
  await Promise.all(inFlight);
  return { timesMs, failures };
}
