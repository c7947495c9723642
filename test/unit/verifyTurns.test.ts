import { expect, it } from 'vitest';
import { type Due, VerifyTurns } from '../../src/rollup/verifyTurns.js';

const RENEW_MS = 150_000;
const LEASE_MS = 600_000;
const HOUR_MS = 3_600_000;

/** An hour of two leased periods and of others that are always due; time is moved by hand. */
async function anHour({ leasedMs, otherMs }: { leasedMs: number; otherMs: number }) {
  let nowMs = 0;
  const verifiedAtMs = [0, 0];
  let oldestMs = 0;
  let workedMs = 0;
  const work = (ms: number) => {
    nowMs += ms;
    workedMs += ms;
    return ms;
  };
  const see = () => {
    oldestMs = Math.max(oldestMs, nowMs - Math.min(...verifiedAtMs));
  };
  const leased: Due = {
    verifyNext: async () => {
      const oldest = Math.min(...verifiedAtMs);
      if (oldest >= nowMs - RENEW_MS) return null;
      const next = verifiedAtMs.indexOf(oldest);
      const beganMs = nowMs;
      work(leasedMs);
      see();
      // Proven as of when it began.
      verifiedAtMs[next] = beganMs;
      return leasedMs;
    },
  };
  const units = [0, 0, 0];
  const others = units.map((_, index) => ({
    verifyNext: async () => {
      units[index] = (units[index] ?? 0) + 1;
      return work(otherMs);
    },
  }));
  const now = () => nowMs;
  const turns = new VerifyTurns({ leased, leasedPeriods: 2, renewMs: RENEW_MS, others, now });
  const never = new AbortController().signal;
  while (nowMs < HOUR_MS) {
    await turns.run(never);
    nowMs += turns.restMs();
    see();
  }
  return { oldestMs, units, share: workedMs / nowMs };
}

it.each([
  [1_000, 10],
  [1_000, 50_000],
  [5_000, 100_000],
  [30_000, 300_000],
  [60_000, 200_000],
])(
  'a lease of periods that take %i ms outlives other units of %i ms',
  async (leasedMs, otherMs) => {
    const { oldestMs, units, share } = await anHour({ leasedMs, otherMs });
    expect(oldestMs).toBeLessThan(LEASE_MS);
    // Nor do they starve the others, each in its turn.
    expect(Math.min(...units)).toBeGreaterThan(0);
    expect(Math.max(...units) - Math.min(...units)).toBe(0);
    expect(share).toBeLessThan(0.9);
  },
);

it('rests after other work four times as long, and looks for what is leased meanwhile', async () => {
  let nowMs = 0;
  const looks: number[] = [];
  const turns = new VerifyTurns({
    leased: {
      verifyNext: async () => {
        looks.push(nowMs);
        return null;
      },
    },
    leasedPeriods: 2,
    renewMs: RENEW_MS,
    others: [
      {
        verifyNext: async () => {
          nowMs += 3_000;
          return 3_000;
        },
      },
    ],
    now: () => nowMs,
  });
  const never = new AbortController().signal;
  const rests: number[] = [];
  for (let round = 0; round < 4; round++) {
    await turns.run(never);
    rests.push(turns.restMs());
    nowMs += rests.at(-1) ?? 0;
  }
  expect(rests).toEqual([5_000, 5_000, 2_000, 5_000]);
  expect(looks).toEqual([0, 3_000, 8_000, 13_000, 15_000, 18_000]);
});
