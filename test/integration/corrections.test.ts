import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { adjustUsage } from '../../src/accounts/adjust.js';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { queryOnPool } from '../../src/db/query.js';
import { estimateOf } from '../../src/gateway/durable/estimate.js';
import { recordLate } from '../../src/gateway/durable/lateUsage.js';
import type { DatedUsage } from '../../src/gateway/durable/records.js';
import { latePriceId, type Pricer, priceUnpriced } from '../../src/gateway/prices/index.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import type { RecordResult } from '../../src/record/types.js';
import { inForm } from '../support/form.js';
import { openSessions, type Session } from '../support/sessions.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/**
 * A late price, usage that came late and refunds of one usage row: in any order, at once or again,
 * the payer has paid what the request really cost, less what was refunded.
 */
const AT = '2026-05-06T07:08:09.101112Z';
const LATE_PRICE = 1_000;
const REAL_COST = 900;

let fixture: LedgerFixture;
let ledger: Ledger;
let other: Ledger;
let user: string;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  other = await fixture.open({ groupCommit: false });
});
beforeEach(async () => {
  user = await fixture.addUser();
});
afterAll(() => fixture.close());

const pricerOf = (costMicrodollars: number): Pricer => ({
  price: () => ({ costMicrodollars, marketCostMicrodollars: null, source: 'own', version: 'v1' }),
  reload: async () => false,
  close: () => {},
});
const price = (
  target: Pick<Ledger, 'recordUsageBatch'> = ledger,
  pricer: Pricer = pricerOf(LATE_PRICE),
) => priceUnpriced({ query: queryOnPool(fixture.database.pool, false), ledger: target, pricer });

/** An estimate of an intent, without a price, and the real usage that comes after all. */
async function estimated(
  known: { cost: number } | null = null,
): Promise<{ id: string; real: DatedUsage }> {
  const id = uuidv7();
  const intent = {
    id,
    kilo_user_id: user,
    organization_id: null,
    api_key_id: null,
    api_kind: 'openai_chat',
    requested_model: 'm',
    created_at: AT,
    input_tokens_estimate: 100,
    max_tokens: 10,
    streamed: true,
  };
  const price = known && { ...known, price_source: 'own', price_version: 'v1' };
  await ledger.recordUsage(estimateOf(intent, price));
  const real = {
    id,
    kilo_user_id: user,
    cost: REAL_COST,
    input_tokens: 90,
    output_tokens: 5,
    requested_model: 'm',
    created_at: AT,
    metadata: { api_kind: 'openai_chat', price_source: 'own', price_version: 'v1' },
  };
  return { id, real };
}

const unpricedReal = (real: DatedUsage): DatedUsage => ({
  ...real,
  cost: 0,
  metadata: {
    api_kind: 'openai_chat',
    unpriced: true,
    usage_details: { price: { input_tokens: 90, output_tokens: 5, service_tier: 'flex' } },
  },
});

async function charged(id: string): Promise<number> {
  const [row] = await fixture.rows<{ sum: string }>(
    `select sum(u.cost) from microdollar_usage as u
     left join microdollar_usage_metadata as m on m.id = u.id
     where u.id = $1 or m.adjusts_usage_id = $1`,
    [id],
  );
  return Number(row?.sum);
}
async function expectCharged(id: string, cost: number): Promise<void> {
  expect(await charged(id)).toBe(cost);
  expect(await ledger.getUserBalance(user)).toBe(cost);
}

/** A ledger whose callers meet another correction between reading and writing. */
function meeting(more: () => Promise<unknown>): Ledger {
  let isMet = false;
  const meet = async () => {
    if (isMet) return;
    isMet = true;
    await more();
  };
  return Object.create(ledger, {
    recordUsage: {
      async value(event: DatedUsage): Promise<RecordResult> {
        if (event.metadata?.adjusts_usage_id) await meet();
        return await ledger.recordUsage(event);
      },
    },
    recordUsageBatch: {
      async value(events: DatedUsage[]) {
        await meet();
        return await ledger.recordUsageBatch(events);
      },
    },
  });
}

async function untilBlockedBy(pid: number): Promise<void> {
  const waiting = 'select from pg_stat_activity where $1 = any(pg_blocking_pids(pid))';
  while ((await fixture.rows(waiting, [pid])).length === 0) await sleep(5);
}

describe('a late price and late usage', () => {
  it('one after the other, in both orders, and again', async () => {
    const first = await estimated();
    await price();
    await expectCharged(first.id, LATE_PRICE);
    await recordLate(ledger, first.real);
    expect(await recordLate(other, first.real)).toMatchObject({ status: 'duplicate' });
    expect(await price()).toMatchObject({ seen: 0 });
    await expectCharged(first.id, REAL_COST);

    user = await fixture.addUser();
    const second = await estimated();
    await recordLate(ledger, second.real);
    expect(await price()).toMatchObject({ seen: 0 });
    await recordLate(ledger, second.real);
    await expectCharged(second.id, REAL_COST);
  });

  it('the price between what the usage reads and writes', async () => {
    const { id, real } = await estimated();
    await recordLate(
      meeting(() => price(other)),
      real,
    );
    await expectCharged(id, REAL_COST);
    expect(await price()).toMatchObject({ seen: 0 });
  });

  it('the usage between what the price reads and writes', async () => {
    const { id, real } = await estimated();
    expect(await price(meeting(() => recordLate(other, real)))).toMatchObject({ alreadyPriced: 1 });
    await expectCharged(id, REAL_COST);
  });

  it('a price in flight, whose transaction ends while the usage waits', async () => {
    const { id, real } = await estimated();
    await using sessions = await openSessions(fixture.database.url, 1);
    const [session] = sessions.all as [Session];
    const late = [latePriceId(id), user, AT];
    await session.run('begin');
    await session.run(
      `insert into microdollar_usage (id, kilo_user_id, created_at, cost)
       values ($1, $2, $3, ${LATE_PRICE})`,
      late,
    );
    await session.run(
      `insert into microdollar_usage_metadata
         (id, kilo_user_id, created_at, adjusts_usage_id, correction_number, price_source)
       values ($1, $2, $3, $4, 1, 'own')`,
      [...late, id],
    );
    const recorded = recordLate(other, real);
    await untilBlockedBy(session.pid);
    await session.run('commit');
    await recorded;
    expect(await charged(id)).toBe(REAL_COST);
    // Written by hand, without its effects.
    for (const table of ['microdollar_usage', 'microdollar_usage_metadata']) {
      await session.run(`delete from ${table} where id = $1`, late.slice(0, 1));
    }
  });

  it('real usage without a price keeps the estimate until it has one, and is priced as it was', async () => {
    const { id, real } = await estimated({ cost: 700 });
    await recordLate(ledger, unpricedReal(real));
    await expectCharged(id, 700);
    const seen: object[] = [];
    const pricer: Pricer = {
      ...pricerOf(REAL_COST),
      price: (reading, context) => {
        seen.push(reading);
        return pricerOf(REAL_COST).price(reading, context);
      },
    };
    expect(await price(ledger, pricer)).toMatchObject({ seen: 1, priced: 1 });
    expect(seen).toMatchObject([{ inputTokens: 90, outputTokens: 5, serviceTier: 'flex' }]);
    await expectCharged(id, REAL_COST);
    expect(await price()).toMatchObject({ seen: 0 });
    await recordLate(ledger, unpricedReal(real));
    await expectCharged(id, REAL_COST);
  });

  it('of a person who was deleted', async () => {
    const { id, real } = await estimated();
    await softDeleteUser(fixture.database.pool, user);
    await recordLate(
      meeting(() => price(other)),
      real,
    );
    expect(await ledger.getUserBalance(user)).toBe(REAL_COST);
    await recordLate(ledger, real);
    await price();
    expect(await ledger.getUserBalance(user)).toBe(REAL_COST);
    expect(id).toBe(real.id);
  });
});

describe('refunds among them', () => {
  it('is no price: the usage stays open, and both count', async () => {
    const { id } = await estimated();
    await adjustUsage(ledger, id, '-0.0001', { force: true });
    expect(await price()).toMatchObject({ priced: 1 });
    await expectCharged(id, LATE_PRICE - 100);
  });

  it('between what a late price reads and writes', async () => {
    const { id } = await estimated();
    const met = meeting(() => adjustUsage(other, id, '-0.0001', { force: true }));
    expect(await price(met)).toMatchObject({ priced: 1, rejected: 0 });
    await expectCharged(id, LATE_PRICE - 100);
  });

  it('between what late usage reads and writes', async () => {
    const { id, real } = await estimated({ cost: LATE_PRICE });
    await recordLate(
      meeting(() => adjustUsage(other, id, '-0.0002')),
      real,
    );
    await expectCharged(id, REAL_COST - 200);
  });

  it('of all that was estimated leave nothing to pay, and no more than that', async () => {
    const { id, real } = await estimated({ cost: LATE_PRICE });
    await adjustUsage(ledger, id, '-0.001');
    await recordLate(ledger, real);
    await expectCharged(id, 0);
  });

  it('of one id count once, whatever comes between', async () => {
    const { id, real } = await estimated({ cost: LATE_PRICE });
    const refund = uuidv7();
    await adjustUsage(ledger, id, '-0.0003', { id: refund });
    await recordLate(ledger, real);
    expect(await adjustUsage(other, id, '-0.0003', { id: refund })).toMatchObject({
      status: 'duplicate',
    });
    await expect(adjustUsage(other, id, '-0.0004', { id: refund })).rejects.toMatchObject({
      code: 'idempotency_conflict',
    });
    await expectCharged(id, REAL_COST - 300);
  });

  it('never fail a neighbour of the same batch', async () => {
    const { id } = await estimated();
    await adjustUsage(ledger, id, '-0.0001', { force: true });
    const neighbour = { kilo_user_id: user, cost: 5 };
    const metadata = { adjusts_usage_id: id, correction_number: 1 };
    const results = await ledger.recordUsageBatch([
      neighbour,
      { kilo_user_id: user, cost: 7, metadata },
      neighbour,
    ]);
    expect(results.map(({ status }) => status)).toEqual(['recorded', 'rejected', 'recorded']);
    expect(await ledger.getUserBalance(user)).toBe(10 - 100);
  });
});

describe('refunds, and what they may come to', () => {
  const refused = expect.objectContaining({ code: 'refund_exceeds_cost' });

  it('the same again, at once or later, is a duplicate unless it has a name of its own', async () => {
    const { id } = await estimated({ cost: 1_000 });
    const both = [ledger, other].map((target) => adjustUsage(target, id, '-0.0003'));
    const statuses = (await Promise.all(both)).map(({ status }) => status).sort();
    expect(statuses).toEqual(['duplicate', 'recorded']);
    expect(await adjustUsage(other, id, '-0.0003')).toMatchObject({ status: 'duplicate' });
    await expectCharged(id, 700);
    const another = await adjustUsage(other, id, '-0.0003', { id: uuidv7() });
    expect(another).toMatchObject({ status: 'recorded' });
    await expectCharged(id, 400);
  });

  it('are not dated before what they refund: the archive of a day would take them alone', async () => {
    const created_at = new Date(Date.now() + 2 * 60_000);
    const usage = await ledger.recordUsage({ kilo_user_id: user, cost: 500, created_at });
    const refund = await adjustUsage(ledger, usage.id, '-0.0005');
    expect(refund).toMatchObject({ status: 'recorded', created_at: usage.created_at });
    expect(await adjustUsage(ledger, usage.id, '-0.0005')).toMatchObject({ status: 'duplicate' });
  });

  it('that were dated at another time before are known again', async () => {
    const created_at = new Date(Date.now() + 2 * 60_000);
    const usage = await ledger.recordUsage({ kilo_user_id: user, cost: 500, created_at });
    const id = uuidv7();
    const metadata = { adjusts_usage_id: usage.id, correction_number: 1 };
    await ledger.recordUsage({ id, kilo_user_id: user, cost: -500, metadata });
    const again = await adjustUsage(ledger, usage.id, '-0.0005', { id });
    expect(again).toMatchObject({ status: 'duplicate' });
  });

  it('never pass the cost, with all that corrected it, unless forced', async () => {
    const { id, real } = await estimated({ cost: 1_000 });
    await recordLate(ledger, real);
    await expect(adjustUsage(ledger, id, '-0.000901')).rejects.toEqual(refused);
    await adjustUsage(ledger, id, '-0.0009');
    await expect(adjustUsage(ledger, id, '-0.000001')).rejects.toThrow(
      'nothing of this request is left to refund',
    );
    expect(await adjustUsage(ledger, id, '-0.0009')).toMatchObject({ status: 'duplicate' });
    await expectCharged(id, 0);
    await adjustUsage(ledger, id, '-0.000001', { force: true });
    await expectCharged(id, -1);
    await adjustUsage(ledger, id, '0.5');
    await expectCharged(id, 499_999);
  });

  it('never do by many at once either', async () => {
    const refunds = fc.array(fc.integer({ min: 1, max: 600 }), { minLength: 2, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(refunds, async (amounts) => {
        user = await fixture.addUser();
        const { id } = await estimated({ cost: 1_000 });
        const settled = await Promise.allSettled(
          amounts.map((amount, at) =>
            adjustUsage(at % 2 ? ledger : other, id, -amount / 1e6, { id: uuidv7() }),
          ),
        );
        const refunded = settled.reduce(
          (sum, { status }, at) => sum + (status === 'fulfilled' ? (amounts[at] ?? 0) : 0),
          0,
        );
        expect(refunded).toBeLessThanOrEqual(1_000);
        for (const [at, outcome] of settled.entries()) {
          if (outcome.status === 'fulfilled') continue;
          expect(outcome.reason).toMatchObject({ code: 'refund_exceeds_cost' });
          expect(refunded + (amounts[at] ?? 0)).toBeGreaterThan(1_000);
        }
        await expectCharged(id, 1_000 - refunded);
      }),
      { numRuns: inForm(8, 20) },
    );
    await fixture.expectExact();
  });

  it('are not adjusted themselves', async () => {
    const { id } = await estimated({ cost: 1_000 });
    const refund = await adjustUsage(ledger, id, '-0.0001');
    await expect(adjustUsage(ledger, refund.id, '0.0001')).rejects.toThrow(
      `usage_id is a correction of ${id}: adjust that one`,
    );
    await expectCharged(id, 900);
  });

  it('of a deleted user, whose earlier ones nobody knows, need force', async () => {
    const { id } = await estimated({ cost: 1_000 });
    await softDeleteUser(fixture.database.pool, user);
    await expect(adjustUsage(ledger, id, '-0.0001')).rejects.toEqual(refused);
    const forced = () => adjustUsage(ledger, id, '-0.0001', { force: true });
    expect(await forced()).toMatchObject({ status: 'recorded' });
    expect(await forced()).toMatchObject({ status: 'duplicate' });
    expect(await ledger.getUserBalance(user)).toBe(900);
  });
});

describe('all of them at once', () => {
  type Act = 'price' | 'usage' | 'refund';

  it('come to the real cost less the refunds', async () => {
    const acts = fc.array(fc.constantFrom<Act>('price', 'usage', 'refund'), {
      minLength: 2,
      maxLength: 8,
    });
    await fc.assert(
      fc.asyncProperty(acts, fc.boolean(), async (all, isPriced) => {
        user = await fixture.addUser();
        const { id, real } = await estimated(isPriced ? { cost: 950 } : null);
        const run = (act: Act, at: number) => {
          const target = at % 2 === 0 ? ledger : other;
          if (act === 'price') return price(target);
          if (act === 'usage') return recordLate(target, real);
          return adjustUsage(target, id, '-0.00001', { id: uuidv7(), force: true });
        };
        await Promise.all(all.map(run));
        const refunds = all.filter((act) => act === 'refund').length;
        await recordLate(ledger, real);
        await price();
        await expectCharged(id, REAL_COST - 10 * refunds);
        const numbers = await fixture.rows<{ correction_number: number }>(
          `select correction_number from microdollar_usage_metadata
           where adjusts_usage_id = $1 order by 1`,
          [id],
        );
        expect(numbers.map((row) => row.correction_number)).toEqual(numbers.map((_, at) => at + 1));
      }),
      { numRuns: inForm(10, 25) },
    );
    await fixture.expectExact();
  });
});
