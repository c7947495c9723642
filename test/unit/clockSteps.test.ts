import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BudgetKeeper, type BudgetKeeperOptions } from '../../src/budgets/keeper.js';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { Settler } from '../../src/counter/settler.js';
import type { Query } from '../../src/db/query.js';
import { createMetrics } from '../../src/metrics.js';
import { KnownPayers } from '../../src/record/knownPayers.js';
import { Twins } from '../../src/record/twins.js';
import { LiveSampler } from '../../src/server/operations/liveSampler.js';

const PAYER = { kilo_user_id: 'ada', organization_id: null };
const ID = '00000000-0000-4000-8000-00000000000a';

/** The system's time is set back by an hour, and so many of its ms pass. */
function stepBackAndWait(ms: number): void {
  vi.setSystemTime(Date.now() - 3_600_000);
  vi.advanceTimersByTime(ms);
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('where the clock is set back', () => {
  it('that a payer exists is believed no longer', () => {
    const known = new KnownPayers();
    known.add(PAYER);
    stepBackAndWait(60_000);
    expect(known.has(PAYER)).toBe(false);
  });

  it('an id that was in flight stands aside no longer', () => {
    const twins = new Twins({ waitMs: 1_000, onHeld: () => {} });
    twins.suspect([ID]);
    stepBackAndWait(1_000);
    expect(twins.isExpected(ID)).toBe(false);
  });

  it('what the console shows of a second is of a second', async () => {
    const metrics = createMetrics();
    const sampler = new LiveSampler(metrics);
    await sampler.read();
    metrics.events.inc({ kind: 'usage', outcome: 'recorded' }, 10);
    stepBackAndWait(2_000);
    const { points } = await sampler.read();
    expect(points).toMatchObject([{ eventsPerSecond: 5 }]);
    sampler.close();
  });

  it('a payer is settled, and folded, when it is due', async () => {
    const asked: string[] = [];
    const query: Query = async ({ name }) => {
      asked.push(name ?? '');
      return [];
    };
    const settler = new Settler({ query });
    settler.appended(PAYER);
    const folder = new DimensionFolder({ query });
    folder.appended(PAYER);
    const foldSome = vi.fn(async () => []);
    const keeper = new BudgetKeeper({
      query,
      folder: { foldSome } as unknown as BudgetKeeperOptions['folder'],
      onError: (error) => expect.fail(String(error)),
    });
    keeper.used(PAYER);
    stepBackAndWait(600_000);
    await settler.settleDue();
    await folder.foldDue();
    await keeper.foldDue();
    expect(asked).toContain('microdollar_settle_user');
    expect(asked.some((name) => name.startsWith('microdollar_fold_'))).toBe(true);
    expect(foldSome).toHaveBeenCalledOnce();
  });
});
