import { expect, it } from 'vitest';
import { TestLimit } from '../../../src/alerts/testLimit.js';

it('lets five tests of a payer through in any minute, and says when the next may come', () => {
  let now = 0;
  const limit = new TestLimit(() => now);
  for (let n = 0; n < 5; n++) {
    limit.take('user:ada');
    now += 1_000;
  }
  expect(() => limit.take('user:ada')).toThrow(/at most 5 times a minute; wait 55 s/);
  try {
    limit.take('user:ada');
  } catch (error) {
    expect(error).toMatchObject({
      code: 'too_many_requests',
      details: { retry_after_seconds: 55 },
    });
  }
  limit.take('user:bob');
  now = 60_000;
  limit.take('user:ada');
  expect(() => limit.take('user:ada')).toThrow(/wait 1 s/);
});
