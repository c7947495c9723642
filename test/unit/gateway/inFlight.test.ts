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

  it('doubles with the oldest while nothing has ended', () => {
    const { clock, limit } = createLimit(1);
    limit.tryAcquire(ada);
    expect(limit.retryAfterSeconds(ada)).toBe(1);
    clock.ms = 5_000;
    expect(limit.retryAfterSeconds(ada)).toBe(10);
    clock.ms = 600_000;
    expect(limit.retryAfterSeconds(ada)).toBe(60);
  });

  it('is a share of a request’s time where the oldest is overdue', () => {
    const { clock, limit } = createLimit(4);
    const end = limit.tryAcquire(ada);
    for (let place = 0; place < 3; place++) limit.tryAcquire(ada);
    clock.ms = 8_000;
    end?.();
    limit.tryAcquire(ada);
    clock.ms = 20_000;
    expect(limit.retryAfterSeconds(ada)).toBe(2);
  });

  it('is at once for a payer with nothing in flight', () => {
    expect(createLimit(1).limit.retryAfterSeconds(ada)).toBe(1);
  });
});
