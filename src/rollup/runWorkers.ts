/** What ends a job: its caller's signal, or the first of its workers that fails. */
export class JobEnd {
  readonly #failed = new AbortController();
  readonly signal: AbortSignal;

  constructor(signal?: AbortSignal) {
    this.signal = signal ? AbortSignal.any([signal, this.#failed.signal]) : this.#failed.signal;
  }

  fail(): void {
    this.#failed.abort();
  }
}

/**
 * Runs a job's workers side by side. The first one that fails ends the others at their next step,
 * through the signal; when all have ended, its error is thrown. So nobody goes on, or waits for
 * the database, on behalf of a job that has failed already.
 */
export async function runWorkers(
  count: number,
  end: JobEnd,
  work: () => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  await Promise.all(
    Array.from({ length: count }, async () => {
      try {
        await work();
      } catch (error) {
        failures.push(error);
        end.fail();
      }
    }),
  );
  if (failures.length > 0) throw failures[0];
}
