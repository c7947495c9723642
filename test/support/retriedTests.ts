import type { Reporter, TestCase } from 'vitest/node';

/** Prints what failed in tests that passed when they were tried again: it would be told nowhere. */
export class RetriedTests implements Reporter {
  onTestCaseResult(test: TestCase): void {
    if (!test.diagnostic()?.retryCount) return;
    for (const { stack, message, diff } of test.result().errors ?? []) {
      console.error(`needed a second try: ${test.fullName}\n${stack ?? message}\n${diff ?? ''}`);
    }
  }
}
