import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { LedgerError } from '../../../src/errors.js';
import { StreamAllowance } from '../../../src/gateway/proxy/streamAllowance.js';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A stream of which ten tokens are held, a byte each; what is asked beyond is answered in turn. */
function watch(...answers: readonly (boolean | LedgerError)[]) {
  const asked: number[] = [];
  const onExhausted = vi.fn();
  const left = [...answers];
  const stream = new StreamAllowance(
    {
      outputTokens: 10,
      mostTokens: null,
      bytesPerToken: 1,
      amountOf: (tokens) => tokens,
      extend: async (amount) => {
        asked.push(amount);
        const answer = left.shift();
        if (answer instanceof LedgerError) throw answer;
        return { isGranted: answer ?? false, held: 10, left: 0 };
      },
    },
    onExhausted,
  );
  const see = async (bytes: number) => {
    stream.see(bytes);
    await vi.advanceTimersByTimeAsync(1);
  };
  return { asked, onExhausted, see };
}

it('asks again when the database had no answer: a stream is watched to its end', async () => {
  const { asked, onExhausted, see } = watch(new LedgerError('unavailable', 'away'), true, false);
  await see(11);
  await see(12);
  expect(asked).toEqual([20]);
  await vi.advanceTimersByTimeAsync(1_000);
  await see(13);
  expect(asked).toEqual([20, 20]);
  await see(21);
  expect(asked).toEqual([20, 20, 40]);
  expect(onExhausted).toHaveBeenCalledOnce();
});

it('asks no more for a request whose usage is recorded', async () => {
  const { asked, see } = watch(new LedgerError('forbidden', 'the hold is settled'));
  await see(11);
  await vi.advanceTimersByTimeAsync(60_000);
  await see(12);
  expect(asked).toEqual([20]);
});
