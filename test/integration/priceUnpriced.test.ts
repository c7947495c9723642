import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { adjustUsage } from '../../src/accounts/adjust.js';
import { queryOnPool } from '../../src/db/query.js';
import { LedgerError } from '../../src/errors.js';
import {
  createPricer,
  latePriceId,
  type Pricer,
  type PriceUnpricedReport,
  priceUnpriced,
} from '../../src/gateway/prices/index.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import type { UsageEvent } from '../../src/record/types.js';
import { meterCall } from '../unit/gateway/meterCall.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** Usage that had no price is priced later: exactly once, at its own time, for its own payer. */
const AT = '2026-05-06T07:08:09.101112Z';
const dir = mkdtempSync(path.join(tmpdir(), 'late-prices-'));
const listPricer = createPricer();

let fixture: LedgerFixture;
let ledger: Ledger;
let user: string;
let organization: string;
/** Knows `house-model` at 2 USD a million in, 10 out. */
let pricer: Pricer;

beforeAll(async () => {
  const file = path.join(dir, 'prices.json');
  const price = { input_mtok: '2', output_mtok: '10', cache_read_mtok: '0.5' };
  writeFileSync(file, JSON.stringify({ version: 'v1', prices: [{ model: 'house-*', price }] }));
  pricer = createPricer({ ownPricesFile: file });
});

beforeEach(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  user = await fixture.addUser();
  organization = await fixture.addOrganization();
  return () => fixture.close();
});

afterAll(() => {
  pricer.close();
  rmSync(dir, { recursive: true });
});

const unpriced = (
  more: Partial<UsageEvent> & { id?: string } = {},
): UsageEvent & { id: string } => ({
  id: uuidv7(),
  kilo_user_id: user,
  cost: 0,
  input_tokens: 1_000,
  output_tokens: 100,
  cache_hit_tokens: 400,
  created_at: AT,
  provider: 'openai',
  model: 'house-model',
  requested_model: 'house-alias',
  ...more,
  metadata: { unpriced: true, api_kind: 'openai_chat', ...more.metadata },
});

const run = (more: { ledger?: Pick<Ledger, 'recordUsageBatch'>; pageSize?: number } = {}) =>
  priceUnpriced({
    query: queryOnPool(fixture.database.pool, false),
    ledger,
    pricer,
    ...more,
  });

const recorded = (more: Partial<PriceUnpricedReport>): PriceUnpricedReport => ({
  seen: 0,
  priced: 0,
  alreadyPriced: 0,
  stillUnpriced: 0,
  rejected: 0,
  costMicrodollars: 0,
  next: null,
  ...more,
});

const lateRow = async (id: string) =>
  (
    await fixture.rows(
      `select u.kilo_user_id, u.organization_id, u.cost::integer, u.input_tokens::integer,
         u.output_tokens::integer, u.model, u.requested_model, u.provider,
         to_char(u.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
         m.adjusts_usage_id, m.price_source, m.price_version, m.unpriced
       from microdollar_usage as u
       join microdollar_usage_metadata as m on m.id = u.id
       where u.id = $1`,
      [latePriceId(id)],
    )
  )[0];

describe('pricing what had no price', () => {
  it('adds a row that names the original and carries its payer and time', async () => {
    const personal = unpriced();
    const shared = unpriced({ organization_id: organization });
    await ledger.recordUsageBatch([personal, shared]);
    // 600 x 2 + 400 x 0.5 + 100 x 10 microdollars.
    const cost = 2_400;
    expect(await run()).toEqual(recorded({ seen: 2, priced: 2, costMicrodollars: 2 * cost }));
    for (const original of [personal, shared]) {
      expect(await lateRow(original.id)).toEqual({
        kilo_user_id: user,
        organization_id: original.organization_id ?? null,
        cost,
        input_tokens: 0,
        output_tokens: 0,
        model: 'house-model',
        requested_model: 'house-alias',
        provider: 'openai',
        created_at: AT,
        adjusts_usage_id: original.id,
        price_source: 'own',
        price_version: 'v1',
        unpriced: null,
      });
    }
    expect(await ledger.getUserBalance(user)).toBe(cost);
    expect(await ledger.getOrganizationBalance(organization)).toBe(cost);
    const day = { kilo_user_id: user, from: '2026-05-06', until: '2026-05-06' };
    expect(await ledger.getDailyUsage(day)).toMatchObject([{ total_cost_microdollars: cost }]);
    await fixture.expectExact();
  });

  it('does so once: again, and by several at once', async () => {
    const events = Array.from({ length: 25 }, () => unpriced());
    await ledger.recordUsageBatch(events);
    const reports = await Promise.all([run({ pageSize: 4 }), run({ pageSize: 7 }), run()]);
    const priced = reports.reduce((sum, each) => sum + each.priced, 0);
    expect(priced).toBe(25);
    expect(await run()).toEqual(recorded({}));
    expect(await ledger.getUserBalance(user)).toBe(25 * 2_400);
    await fixture.expectExact();
  });

  it('goes on after an interruption, where the answer was lost', async () => {
    await ledger.recordUsageBatch(Array.from({ length: 6 }, () => unpriced()));
    let batches = 0;
    const breaking: Pick<Ledger, 'recordUsageBatch'> = {
      async recordUsageBatch(events) {
        const results = await ledger.recordUsageBatch(events);
        if (++batches < 2) return results;
        const error = new LedgerError('unavailable', 'cut');
        return results.map(({ id }) => ({ id, status: 'rejected', error }));
      },
    };
    await expect(run({ ledger: breaking, pageSize: 2 })).rejects.toThrow('cut');
    expect(await run({ pageSize: 2 })).toEqual(
      recorded({ seen: 2, priced: 2, costMicrodollars: 4_800 }),
    );
    expect(await ledger.getUserBalance(user)).toBe(6 * 2_400);
  });

  it('takes a price that has changed since for what was recorded first', async () => {
    const event = unpriced();
    await ledger.recordUsage(event);
    const stale: Pick<Ledger, 'recordUsageBatch'> = {
      async recordUsageBatch(events) {
        await ledger.recordUsageBatch(events.map((each) => ({ ...each, cost: 77 })));
        return ledger.recordUsageBatch(events);
      },
    };
    expect(await run({ ledger: stale })).toEqual(recorded({ seen: 1, alreadyPriced: 1 }));
    expect(await ledger.getUserBalance(user)).toBe(77);
  });

  it('leaves what still has no price, and counts it every time', async () => {
    const mystery = { model: 'mystery', requested_model: null };
    await ledger.recordUsageBatch([unpriced(mystery), unpriced(), unpriced(mystery)]);
    const report = { seen: 3, stillUnpriced: 2, priced: 1, costMicrodollars: 2_400 };
    expect(await run({ pageSize: 1 })).toEqual(recorded(report));
    expect(await run()).toEqual(recorded({ seen: 2, stillUnpriced: 2 }));
  });

  it('prices a row that was refunded: a refund is no price', async () => {
    const event = unpriced();
    await ledger.recordUsage(event);
    await ledger.recordUsage({
      kilo_user_id: user,
      cost: -5,
      metadata: { adjusts_usage_id: event.id },
    });
    expect(await run()).toMatchObject({ priced: 1 });
    expect(await ledger.getUserBalance(user)).toBe(2_395);
  });

  it('stops at its bound and says so', async () => {
    await ledger.recordUsageBatch(Array.from({ length: 5 }, () => unpriced()));
    const query = queryOnPool(fixture.database.pool, false);
    const report = await priceUnpriced({ query, ledger, pricer, pageSize: 2, maxRows: 3 });
    expect(report).toMatchObject({ seen: 3, priced: 3, next: { id: expect.any(String) } });
  });

  it('goes on where it ended, past what nobody has a price for', async () => {
    const at = (minute: number) => `2026-11-20T10:0${minute}:00Z`;
    const older = [0, 1, 2].map((minute) =>
      unpriced({ model: 'nobody', requested_model: 'nobody', created_at: at(minute) }),
    );
    const younger = unpriced({ created_at: at(3) });
    await ledger.recordUsageBatch([...older, younger]);
    const query = queryOnPool(fixture.database.pool, false);
    const options = { query, ledger, pricer, maxRows: 3 };
    const first = await priceUnpriced(options);
    expect(first).toMatchObject({ seen: 3, priced: 0, next: { id: older[2]?.id } });
    const second = await priceUnpriced({ ...options, after: first.next });
    expect(second).toMatchObject({ priced: 1, next: null });
    const stopped = await priceUnpriced({ ...options, signal: AbortSignal.abort() });
    expect(stopped).toMatchObject({ seen: 0, priced: 0 });
  });

  it('uses the list price of the API that the request came by', async () => {
    const event = unpriced({
      model: 'claude-sonnet-4-5',
      metadata: { unpriced: true, api_kind: 'anthropic_messages' },
    });
    await ledger.recordUsage(event);
    const query = queryOnPool(fixture.database.pool, false);
    await priceUnpriced({
      query,
      ledger,
      pricer: listPricer,
      upstreamHost: (format) => (format === 'anthropic-messages' ? 'api.anthropic.com' : 'x'),
    });
    // 600 x 3 + 400 x 0.3 + 100 x 15 microdollars.
    expect(await lateRow(event.id)).toMatchObject({
      cost: 3_420,
      price_source: 'genai-prices',
      price_version: expect.stringContaining('anthropic/claude-sonnet-4-5'),
    });
  });
});

describe('pricing what had no price of a part', () => {
  const CALLS = 2;
  const BODY = {
    type: 'message',
    id: 'm',
    model: 'claude-sonnet-4-5',
    content: [{ type: 'text', text: 'ha' }],
    usage: {
      input_tokens: 1_000,
      output_tokens: 100,
      server_tool_use: { code_execution_requests: CALLS },
    },
  };
  const at = new Date(AT);
  const answer = (by: Pricer) => ({
    ...meterCall({ format: 'anthropic-messages', body: BODY, pricer: by, startedAt: at, now: at }),
    id: uuidv7(),
    kilo_user_id: user,
  });
  /** As the operator prices it, once he does. */
  const pricerWith = (price: Record<string, string>, file = `${uuidv7()}.json`) => {
    const own = path.join(dir, file);
    writeFileSync(own, JSON.stringify({ version: 'v2', prices: [{ model: 'claude-*', price }] }));
    const made = createPricer({ ownPricesFile: own });
    made.close();
    return made;
  };
  const TOKENS = { input_mtok: '3', output_mtok: '15' };
  const sum = async () => {
    const [row] = await fixture.rows<{ sum: string }>('select sum(cost) from microdollar_usage');
    return Number(row?.sum);
  };
  const late = (by: Pricer, target: Pick<Ledger, 'recordUsageBatch'> = ledger) =>
    priceUnpriced({
      query: queryOnPool(fixture.database.pool, false),
      ledger: target,
      pricer: by,
      kind: 'incomplete',
    });

  it('makes it cost what it would have cost at once, and once', async () => {
    const event = answer(listPricer);
    expect(event.metadata).toMatchObject({
      estimated: 'incomplete',
      usage_details: { doubts: ['charge:code_executions'] },
    });
    await ledger.recordUsage(event);
    const known = pricerWith({ ...TOKENS, code_executions_kcount: '50' });
    const atOnce = answer(known);
    // 4,500 of tokens and two calls at 50 USD a thousand.
    expect([event.cost, atOnce.cost]).toEqual([4_500, 104_500]);
    expect(await run({})).toEqual(recorded({}));
    const both = await Promise.all([late(known), late(known)]);
    expect(both.map(({ priced }) => priced).sort()).toEqual([0, 1]);
    expect(await sum()).toBe(atOnce.cost);
    expect(await late(known)).toEqual(recorded({}));
    const dearer = pricerWith({ ...TOKENS, code_executions_kcount: '90' });
    expect(await late(dearer)).toEqual(recorded({}));
    expect(await ledger.getUserBalance(user)).toBe(atOnce.cost);
  });

  it('waits until every part has a price', async () => {
    await ledger.recordUsage(answer(listPricer));
    expect(await late(listPricer)).toEqual(recorded({ seen: 1, stillUnpriced: 1 }));
    expect(await late(pricerWith(TOKENS))).toEqual(recorded({ seen: 1, stillUnpriced: 1 }));
    expect(await sum()).toBe(4_500);
  });

  it('beside a refund: what was charged, less what was given back', async () => {
    const event = answer(listPricer);
    await ledger.recordUsage(event);
    await adjustUsage(ledger, event.id, '-0.0005');
    await late(pricerWith({ ...TOKENS, code_executions_kcount: '50' }));
    expect(await sum()).toBe(104_500 - 500);
  });
});
