import { describe, expect, it } from 'vitest';
import { createInFlightLimit } from '../../../src/gateway/durable/inFlight.js';

const ada = { kilo_user_id: 'ada', organization_id: null };
const eve = { kilo_user_id: 'eve', organization_id: null };

function createLimit(max: number) {
  const clock = { ms: 0 };
  return { clock, limit: createInFlightLimit(max, () => clock.ms) };
}

describe('when a place is likely to be free', () => {
  it('is when the oldest request has taken as long as such requests do', () => {
    const { clock, limit } = createLimit(2);
    const end = limit.tryAcquire(eve);
    clock.ms = 6_000;
    end?.();
    limit.tryAcquire(ada);
    clock.ms = 8_000;
    limit.tryAcquire(ada);
    expect(limit.tryAcquire(ada)).toBeNull();
    // Others took 6 s; the oldest has taken 2 s.
    expect(limit.retryAfterSeconds(ada)).toBe(4);
  });

  it('is a guess while nothing has ended, then doubles with the oldest', () => {
    const { clock, limit } = createLimit(1);
    limit.tryAcquire(ada);
    clock.ms = 500;
    expect(limit.retryAfterSeconds(ada)).toBe(10);
    clock.ms = 15_000;
    expect(limit.retryAfterSeconds(ada)).toBe(15);
    clock.ms = 600_000;
    expect(limit.retryAfterSeconds(ada)).toBe(59);
  });

  it('is of the place that is free first, also where it is overdue', () => {
    const { clock, limit } = createLimit(4);
    const end = limit.tryAcquire(ada);
    for (let place = 0; place < 3; place++) limit.tryAcquire(ada);
    clock.ms = 8_000;
    end?.();
    limit.tryAcquire(ada);
    clock.ms = 11_000;
    expect(limit.retryAfterSeconds(ada)).toBe(3);
  });

  it('does not take what is in flight for what ended, where all are far older', () => {
    const { clock, limit } = createLimit(2);
    limit.tryAcquire(ada)?.();
    limit.tryAcquire(ada);
    limit.tryAcquire(ada);
    clock.ms = 1_000;
    expect(limit.retryAfterSeconds(ada)).toBe(9);
  });

  it('tells each of those that are refused of another place, and never beyond the last', () => {
    const { clock, limit } = createLimit(3);
    for (let second = 0; second < 3; second++) {
      clock.ms = second * 2_000;
      limit.tryAcquire(ada);
    }
    const told = () => limit.retryAfterSeconds(ada);
    expect([told(), told(), told(), told(), told()]).toEqual([6, 8, 10, 10, 10]);
    // The first two have come again, or should have; the third is yet to come.
    clock.ms = 13_000;
    expect(told()).toBe(11);
  });

  it('lets 100 clients through 64 places with the two retries that the official clients have', () => {
    for (const tookMs of [300, 3_000, 6_000, 9_000, 14_000]) {
      const { clock, limit } = createLimit(64);
      const events: { atMs: number; run(): void }[] = [];
      let refused = 0;
      const attempt = (triesLeft: number): void => {
        const leave = limit.tryAcquire(ada);
        if (leave !== null) events.push({ atMs: clock.ms + tookMs, run: leave });
        else if (triesLeft === 0) refused++;
        else {
          const atMs = clock.ms + limit.retryAfterSeconds(ada) * 1_000;
          events.push({ atMs, run: () => attempt(triesLeft - 1) });
        }
      };
      for (let client = 0; client < 100; client++) {
        clock.ms = client;
        attempt(2);
      }
      for (;;) {
        events.sort((one, other) => one.atMs - other.atMs);
        const next = events.shift();
        if (next === undefined) break;
        clock.ms = Math.max(clock.ms, next.atMs);
        next.run();
      }
      expect({ tookMs, refused }).toEqual({ tookMs, refused: 0 });
    }
  });

  it('is at once for a payer with nothing in flight', () => {
    expect(createLimit(1).limit.retryAfterSeconds(ada)).toBe(1);
  });
});
