import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { checkInvariants } from '../support/checkInvariants.js';
import { scriptProvider } from '../support/scriptedProvider.js';
import { acquire, addBudget, foldBudgets, windowsOf } from './budgetHarness.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

/** 2 microdollars a token of a prompt, 8 of output. */
const MODEL = 'gpt-4.1';

let gateway: TestGateway;
let ending: TestGateway;

beforeAll(async () => {
  gateway = await startTestGateway({ holds: 'expected', gateway: { onAbort: 'stop' } });
  scriptProvider(gateway.upstream);
  ending = await startTestGateway({ holds: 'expected', onOutgrown: 'end' });
  scriptProvider(ending.upstream);
});
afterAll(async () => {
  await gateway?.stop();
  await ending?.stop();
});
afterEach(async () => {
  for (const { database } of [gateway, ending]) {
    expect(await checkInvariants(database.pool)).toEqual([]);
  }
});

async function newPayer(microdollars: number, to = gateway): Promise<TestUser> {
  const user = await to.newUser({ usd: 0 });
  await acquire(to, { user: user.id }, microdollars);
  return user;
}

function post(key: string, say: string, more: object = {}, to = gateway, signal?: AbortSignal) {
  return fetch(`${to.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: MODEL, messages: [{ role: 'user', content: say }], ...more }),
    ...(signal ? { signal } : {}),
  });
}

it('a budget of the key binds what the organization of a header pays', async () => {
  const user = await newPayer(1_000_000_000);
  const organization = await gateway.newOrganization(1_000, user.id);
  const refusals: unknown[] = [];
  const ask = async (header: boolean) => {
    const headers = {
      authorization: `Bearer ${user.key}`,
      'content-type': 'application/json',
      ...(header ? { 'x-microdollar-organization-id': organization } : {}),
    };
    const body = JSON.stringify({
      model: MODEL,
      max_tokens: 100,
      messages: [{ role: 'user', content: '[[use 100]]' }],
    });
    const to = `${gateway.url}/v1/chat/completions`;
    const response = await fetch(to, { method: 'POST', headers, body });
    const budget = response.headers.get('x-microdollar-budget-id');
    if (response.status !== 200) refusals.push([response.status, budget]);
    await response.text();
    return response.status;
  };
  const id = await addBudget(gateway, {
    scope: 'key',
    payer: { user: user.id },
    key: user.keyId,
    limit: 2_000,
    period: 'total',
  });
  expect([await ask(true), await ask(false)]).toEqual([200, 200]);
  for (const header of [true, false]) expect(await ask(header)).toBe(402);
  expect(refusals).toEqual([
    [402, id],
    [402, id],
  ]);
});

async function send(key: string, say: string, more: object = {}, to = gateway) {
  const response = await post(key, say, more, to);
  const text = await response.text();
  const id = response.headers.get('x-microdollar-usage-id') ?? '';
  return { status: response.status, text, id };
}

/** Until the fold takes it away. */
async function heldFor(id: string, to = gateway): Promise<number | null> {
  const [row] = await to.rows<{ amount: number }>(
    'select amount_microdollars::float as amount from usage_holds where id = $1',
    [id],
  );
  return row?.amount ?? null;
}

/** A counter of the gateway, with labels as they are written. */
async function metric(name: string, labels: string, to = gateway): Promise<number> {
  const text = await (await fetch(`${to.url}/metrics`)).text();
  const line = text
    .split('\n')
    .find((each) => each.startsWith(`microdollar_gateway_${name}{${labels}}`));
  return Number(line?.split(' ').at(-1) ?? 0);
}

const outcome = (name: string, to = gateway) =>
  metric('holds_total', `api="openai_chat",outcome="${name}"`, to);

describe('what is held', () => {
  it('nothing of a payer without budgets whose balance is far away', async () => {
    const user = await newPayer(100_000_000);
    const before = await outcome('granted');
    const { status, id } = await send(user.key, 'hi');
    expect(status).toBe(200);
    await gateway.usage(id);
    expect(await heldFor(id)).toBeNull();
    expect(await outcome('granted')).toBe(before);
  });

  it('of a payer with budgets what the request likely costs: at first a thousand tokens', async () => {
    const user = await newPayer(100_000_000);
    await addBudget(gateway, {
      scope: 'key',
      payer: { user: user.id },
      key: user.keyId,
      limit: 9_000,
    });
    const { status, id } = await send(user.key, 'hi');
    expect(status).toBe(200);
    // 2 tokens of the prompt and 1,000 of output.
    expect([null, 8_004]).toContain(await heldFor(id));
    expect((await send(user.key, 'hi', { max_tokens: 2_000 })).status).toBe(200);
    await foldBudgets(gateway.ledger, { user: user.id });
    const windows = await windowsOf(gateway, user.id);
    expect(windows.map(({ spent, held }) => [spent, held])).toEqual([
      [100, 0],
      [100, 0],
    ]);
  });

  it('then as much output as lately, and never more than the request’s own limit', async () => {
    const user = await newPayer(50_000);
    expect((await send(user.key, '[[use 2000]]')).status).toBe(200);
    const refused = await send(user.key, 'x'.repeat(80_000));
    expect(refused.status).toBe(402);
    // 20,001 tokens of the prompt, and 2,000 of output as before.
    expect(refused.text).toContain('is expected to cost $0.056002');
    const limited = await send(user.key, 'x'.repeat(80_000), { max_tokens: 10 });
    expect(limited.text).toContain('is expected to cost $0.040082');
    expect((await send(user.key, 'hi', { max_tokens: 10 })).status).toBe(200);
  });

  it('what costs more than was held is counted, and in no window is lost', async () => {
    const user = await newPayer(30_000);
    const before = await metric('hold_overshoot_microdollars_total', 'api="openai_chat"');
    const { status, id } = await send(user.key, '[[use 3000]]');
    expect(status).toBe(200);
    const { cost } = await gateway.usage(id);
    expect(cost).toBeGreaterThan(24_000);
    const after = await metric('hold_overshoot_microdollars_total', 'api="openai_chat"');
    expect(after - before).toBe(cost - 8_008);
    await foldBudgets(gateway.ledger, { user: user.id });
    expect((await windowsOf(gateway, user.id))[0]).toMatchObject({ spent: cost, held: 0 });
  });

  it('a model without a price costs as much as others, never nothing', async () => {
    const user = await newPayer(20_000);
    const { status, text } = await send(user.key, 'hi', { model: 'of-our-own' });
    expect(status).toBe(402);
    expect(text).toContain('is expected to cost $0.025010');
  });
});

describe('a stream that outgrows its hold', () => {
  const slow = { stream: true, max_tokens: 1_000_000 };

  /** One that had 50 tokens of output lately, and has so much left after that. */
  async function newcomer(left: number, to: TestGateway): Promise<TestUser> {
    const user = await newPayer(10_000, to);
    const { id } = await send(user.key, '[[use 50]]', { max_tokens: 60 }, to);
    const { cost } = await to.usage(id);
    await acquire(to, { user: user.id }, left + cost - 10_000);
    await foldBudgets(to.ledger, { user: user.id });
    return user;
  }

  it('is extended while something is left, then ended, and billed for what it generated', async () => {
    const user = await newcomer(2_400, ending);
    const response = await post(user.key, '[[slow]]', slow, ending);
    const text = await response.text();
    const last = text.trimEnd().split('\n\n').at(-1) ?? '';
    expect(JSON.parse(last.replace('data: ', ''))).toMatchObject({
      error: { code: 'budget_exceeded', type: 'insufficient_quota' },
    });
    const id = response.headers.get('x-microdollar-usage-id') ?? '';
    const usage = await ending.usage(id);
    expect(usage).toMatchObject({
      finish_reason: 'budget_exceeded',
      cancelled: false,
      estimated: 'missing_usage',
    });
    expect(usage.cost).toBeGreaterThan(2_000);
    // What came while more was asked for is billed, too; how much that is, the machine decides: 10 a word.
    const words = text.split('"word "').length - 1;
    expect(usage.cost).toBeLessThan(words * 10 + 100);
    expect(await outcome('extended', ending)).toBe(3);
    expect(await outcome('outgrown', ending)).toBe(1);
    await foldBudgets(ending.ledger, { user: user.id });
    expect((await windowsOf(ending, user.id))[0]).toMatchObject({ held: 0 });
  });

  it('is none that has as much text as the last one, though the provider counts fewer tokens', async () => {
    const user = await newPayer(30_000);
    const before = await outcome('extended');
    for (let turn = 0; turn < 3; turn++) {
      const { status, id } = await send(user.key, 'hi', { stream: true });
      expect(status).toBe(200);
      expect((await gateway.usage(id)).output_tokens).toBe(4);
    }
    expect(await outcome('extended')).toBe(before);
    // 2 tokens of the prompt, and the 20 bytes of the answer.
    const { id } = await send(user.key, 'hi');
    expect([null, 44]).toContain(await heldFor(id));
  });

  it('goes on where that is the policy', async () => {
    const user = await newcomer(700, gateway);
    const leaving = new AbortController();
    const response = await post(user.key, '[[slow]]', slow, gateway, leaving.signal);
    const reader = response.body?.getReader();
    let chunks = 0;
    const reading = (async () => {
      for (;;) {
        if ((await reader?.read())?.done) return;
        chunks++;
      }
    })().catch(() => {});
    await expect.poll(() => outcome('outgrown')).toBe(1);
    const before = chunks;
    await expect.poll(() => chunks).toBeGreaterThan(before + 20);
    leaving.abort();
    await reading;
  });
});
