import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OpenGateway, openGateway } from '../../src/gateway/index.js';
import { EXAMPLE } from '../../src/server/openapi/examples.js';
import { addCredit, addMember, createKey } from '../../src/shards/accounts.js';
import { Moves } from '../../src/shards/move/moves.js';
import { makeDataDir } from '../support/gateway.js';
import { type ReplayUpstream, startReplayUpstream } from '../support/replayUpstream.js';
import { endServices, launchService, readyUrl } from '../support/serviceProcess.js';
import { shardOf } from '../support/shardIds.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/webhookReceiver.js';
import { askExamples, sendExamples } from './referenceSteps.js';
import { ADMIN_KEY, type ServedLedger, serveLedger } from './serverHarness.js';
import { createShardFixture, type ShardFixture } from './shardHarness.js';

/** The whole service over two shards: HTTP, tRPC and gateway, as it is over one database. */
const NAMES = ['home', 'b'] as const;

let fixture: ShardFixture;
let service: ServedLedger;
let gateway: OpenGateway;
let upstream: ReplayUpstream;
let receiver: WebhookReceiver;
const place = makeDataDir();

beforeAll(async () => {
  fixture = await createShardFixture(NAMES);
  upstream = await startReplayUpstream();
  receiver = await startWebhookReceiver();
  const ledger = await fixture.open({ backgroundFold: true, allowPrivateWebhooks: true });
  gateway = await openGateway({
    ledger,
    databaseUrl: fixture.shards[0]?.databaseUrl ?? '',
    dataDir: place.dataDir,
    upstreams: { openai: { url: upstream.url, key: 'sk' } },
  });
  service = await serveLedger(ledger, { plugins: [gateway.plugin] });
});

afterAll(async () => {
  await service?.server.close();
  await gateway?.close();
  await upstream?.close();
  await receiver?.close();
  await fixture?.close();
  place.remove();
});

/** A user on one shard and an organization on the other, which the user is in. */
async function newPair() {
  const user = await fixture.addUserOn('b');
  const organization = await fixture.addOrganizationOn('home');
  await addMember(service.ledger, organization, user);
  await addCredit(service.ledger, { kilo_user_id: user, usd: 10 });
  await addCredit(service.ledger, { organization_id: organization, usd: 20 });
  const scopes = ['usage:read', 'usage:write', 'gateway'];
  const { key } = await createKey(service.ledger, { kilo_user_id: user, scopes });
  const ofOrganization = { kilo_user_id: user, organization_id: organization, scopes };
  const { key: organizationKey } = await createKey(service.ledger, ofOrganization);
  return { user, organization, key, organizationKey };
}

const on = async (shard: string, text: string, values: unknown[]) =>
  (await fixture.rows(shard, text, values)).length;

describe('the service over shards', () => {
  it('records, holds, reports and answers balances wherever the payer is', async () => {
    const { user, organization, key } = await newPair();
    const events = [
      { kilo_user_id: user, cost: 1_000, model: 'm', id: randomUUID() },
      { kilo_user_id: user, organization_id: organization, cost: 2_000, id: randomUUID() },
    ];
    const recorded = await service.post('/api/usage', { events }, key);
    expect(recorded.body.results).toMatchObject([
      { status: 'recorded', new_microdollars_used: 1_000 },
      { status: 'recorded', new_microdollars_used: 2_000 },
    ]);
    const again = await service.post('/api/usage', { events }, key);
    expect(again.body.results).toMatchObject([{ status: 'duplicate' }, { status: 'duplicate' }]);
    const rows = 'select from microdollar_usage where kilo_user_id = $1';
    expect([await on('b', rows, [user]), await on('home', rows, [user])]).toEqual([1, 1]);
    const { body } = await service.query('balance.current', undefined, key);
    expect(body.result.data).toMatchObject({
      microdollars_used: 1_000,
      organizations: [{ organization_id: organization, microdollars_used: 2_000 }],
    });
    const all = await service.get('/api/reports/usage?all_scopes=true', key);
    expect(all.body.total).toMatchObject({ cost_microdollars: 3_000, requests: 2 });
    const account = await service.query('profile.account', undefined, key);
    expect(account.body.result.data.recent).toHaveLength(2);
  });

  it('serves gateway requests of payers of either, whose usage is where they are', async () => {
    const { user, organization, key, organizationKey } = await newPair();
    for (const used of [key, organizationKey]) {
      const answer = await service.post(
        '/v1/chat/completions',
        { model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] },
        used,
      );
      expect([answer.status, answer.body.error]).toEqual([200, undefined]);
    }
    const rows = 'select from microdollar_usage where kilo_user_id = $1 and cost > 0';
    expect([await on('b', rows, [user]), await on('home', rows, [user])]).toEqual([1, 1]);
    expect(organization).toBeTruthy();
  });

  it('limits, alerts and grants of an organization bind members of another shard', async () => {
    const { user, organization, key, organizationKey } = await newPair();
    const ask = async (path: string, body: object, used?: string) => {
      const answer = await service.post(path, body, used);
      return [answer.status, answer.body.error?.code ?? null, answer.body] as const;
    };
    const member = { scope: 'member', id: user, organization_id: organization, window: 'day' };
    expect((await ask('/api/budgets', { ...member, limit_usd: 1 }))[0]).toBe(201);
    const ofAll = { scope: 'organization', id: organization, window: 'month', limit_usd: 5 };
    expect((await ask('/api/budgets', ofAll))[0]).toBe(201);
    const hold = { kilo_user_id: user, organization_id: organization };
    const held = await ask('/api/holds', { ...hold, amount: 900_000 }, organizationKey);
    expect([held[0], held[2].status]).toEqual([200, 'granted']);
    const refused = await ask('/api/holds', { ...hold, amount: 200_000 }, key);
    expect([refused[0], refused[1]]).toEqual([429, 'budget_exceeded']);
    // The user's own money is another matter, on another shard.
    const own = await ask('/api/holds', { kilo_user_id: user, amount: 200_000 }, key);
    expect(own[2].status).toBe('granted');
    for (const id of [held[2].id, own[2].id]) {
      expect((await ask(`/api/holds/${id}/release`, {}, key))[0]).toBe(200);
    }
    const path = `/api/budgets?organization_id=${organization}`;
    const seen = await service.get(path, key);
    expect(seen.body.budgets.map((each: { scope: string }) => each.scope)).toEqual(['member']);
    const all = await service.get('/api/budgets');
    const ours = all.body.budgets.filter(
      (each: { organization_id: string }) => each.organization_id === organization,
    );
    expect(ours.map((each: { is_balance: boolean }) => each.is_balance).sort()).toEqual([
      false,
      false,
      true,
    ]);
    const alert = { kind: 'balance', organization_id: organization, below_usd: 100 };
    expect((await ask('/api/alerts', alert))[0]).toBe(201);
    expect((await ask('/api/alerts', alert, key))[1]).toBe('forbidden');
    const told = await service.get(`/api/alerts/deliveries?organization_id=${organization}`);
    expect(told.body.deliveries).toMatchObject([{ organization_id: organization, id: null }]);
    const everybody = await ask('/api/webhooks', { url: receiver.url });
    expect([everybody[0], everybody[1]]).toEqual([400, 'invalid_request']);
    const credits = await service.get(`/api/credits?organization_id=${organization}`);
    expect(credits.body.credits).toHaveLength(1);
  });

  it('merges lists of all shards, and pages of requests as far as all were looked through', async () => {
    const { user, organization, key } = await newPair();
    const events = Array.from({ length: 7 }, (_, index) => ({
      kilo_user_id: user,
      organization_id: index % 2 === 0 ? organization : null,
      cost: index + 1,
      created_at: new Date(Date.now() - index * 60_000).toISOString(),
    }));
    await service.post('/api/usage', { events }, key);
    const costs: number[] = [];
    for (let cursor: string | null = null; ; ) {
      const asked = { all_scopes: true, limit: 3, cursor };
      const { body } = await service.query('usage.requests', asked, key);
      const page = body.result.data as { requests: { cost: number }[]; next: string | null };
      costs.push(...page.requests.map(({ cost }) => cost));
      if (page.next === null) break;
      cursor = page.next;
    }
    expect(costs).toEqual([1, 2, 3, 4, 5, 6, 7]);
    const recent = await service.query('usage.recent', { limit: 4 }, key);
    expect(recent.body.result.data.map(({ cost }: { cost: number }) => cost)).toEqual([1, 2, 3, 4]);
    // Rows of other programs, in the order of their instants, not of their texts.
    const addRows = (shard: string, organizationId: string | null, instants: string[]) =>
      on(
        shard,
        `insert into microdollar_usage (id, kilo_user_id, organization_id, cost, created_at)
         select gen_random_uuid(), $1, $2, 0, at::timestamptz from unnest($3::text[]) as at`,
        [user, organizationId, instants],
      );
    await addRows('b', null, ['infinity', '9999-01-01', '-infinity']);
    await addRows('home', organization, ['12026-01-01', '0044-03-15 BC']);
    const odd: string[] = [];
    const begins = ['infinity', '12026-01-01', '9999-01-01'];
    const ends = ['0044-03-15', '-infinity'];
    for (let cursor: string | null = null; ; ) {
      const asked = { all_scopes: true, limit: 3, cursor };
      const { body } = await service.query('usage.requests', asked, key);
      odd.push(...body.result.data.requests.map((row: { created_at: string }) => row.created_at));
      if (body.result.data.next === null) break;
      cursor = body.result.data.next;
    }
    const days = odd.map((at) => at.split(/[T ]/)[0]);
    expect([days.slice(0, 3), days.slice(-2)]).toEqual([begins, ends]);
    expect(days).toHaveLength(12);
    const newest = await service.query('usage.recent', { limit: 3 }, key);
    const told = newest.body.result.data.map((row: { created_at: string }) => row.created_at);
    expect(told.map((at: string) => at.split(/[T ]/)[0])).toEqual(begins);
    for (const shard of NAMES) {
      await on(shard, 'delete from microdollar_usage where kilo_user_id = $1 and cost = 0', [user]);
    }
    const keys = await service.query('keys.list', {}, key);
    expect(keys.body.result.data.keys).toHaveLength(2);
    const named = await service.query('operations.coverage', { shard: 'b' });
    expect(named.status).toBe(200);
    const unnamed = await service.query('operations.coverage');
    expect([unnamed.status, unnamed.body.error.message]).toEqual([
      400,
      'shard must name one of the shards, which are home, b; commands take it as --shard',
    ]);
    const { body } = await service.query('operations.status');
    expect(body.result.data).toMatchObject({
      database: { isReachable: true, reason: null },
      shards: [{ name: 'home' }, { name: 'b' }],
    });
    const first = await service.query('budgets.payers', { limit: 1 });
    expect(first.body.result.data.payers).toHaveLength(1);
  });

  it('takes every example of the reference', async () => {
    const places = [
      shardOf({ kilo_user_id: EXAMPLE.user }, NAMES),
      shardOf({ organization_id: EXAMPLE.organization }, NAMES),
    ];
    expect(new Set(places).size).toBe(2);
    await sendExamples(service, receiver.url);
    await askExamples(service);
  });
});

describe('a payer that moves while the service is used', () => {
  it('is found at once by keys, writes, reads and lists, also by ids', async () => {
    const { user, key } = await newPair();
    const moves = new Moves({
      shards: [...fixture.databases].map(([name, { pool }]) => ({ name, pool })) as never,
    });
    const id = randomUUID();
    const event = { kilo_user_id: user, cost: 500, id };
    await service.post('/api/usage', { events: [event] }, key);
    const budget = await service.post('/api/budgets', {
      scope: 'user',
      id: user,
      limit_usd: 5,
      window: 'day',
    });
    expect(budget.status).toBe(201);
    await moves.move({ kilo_user_id: user }, 'home');
    const again = await service.post(
      '/api/usage',
      { events: [event, { ...event, id: randomUUID() }] },
      key,
    );
    expect(again.body.results).toMatchObject([
      { status: 'duplicate' },
      { status: 'recorded', new_microdollars_used: 1_000 },
    ]);
    const raised = await service.call('PATCH', `/api/budgets/${budget.body.id}`, {
      body: { limit_usd: 6 },
      key,
    });
    expect([raised.status, raised.body.spent_microdollars]).toEqual([403, undefined]);
    const changed = await service.call('PATCH', `/api/budgets/${budget.body.id}`, {
      body: { limit_usd: 6 },
    });
    expect(changed.body).toMatchObject({
      limit_microdollars: 6_000_000,
      spent_microdollars: 1_000,
    });
    const adjusted = await service.post('/api/adjustments', { usage_id: id, usd: -0.0001 });
    expect(adjusted.body).toMatchObject({ status: 'recorded', kilo_user_id: user });
    const requests = await service.query('usage.requests', { all_scopes: true }, key);
    expect(requests.body.result.data.requests).toHaveLength(3);
    await fixture.expectExact();
  });
});

describe('start with MICRODOLLAR_SHARDS_FILE', () => {
  it('serves the payers of the shards that it reaches, and names the one that is away', async () => {
    const [here, away] = [await fixture.addUserOn('home'), await fixture.addUserOn('b')];
    const own = makeDataDir();
    const file = join(own.dataDir, 'shards.json');
    const [home] = fixture.shards;
    const shards = [home, { name: 'b', databaseUrl: 'postgres://127.0.0.1:1/none' }];
    await writeFile(file, JSON.stringify(shards));
    const env = {
      MICRODOLLAR_SHARDS_FILE: file,
      MICRODOLLAR_DATA_DIR: own.dataDir,
      MICRODOLLAR_ADMIN_KEY: ADMIN_KEY,
    };
    try {
      const refused = launchService(['start', '--shard', 'b'], { env });
      const url = await readyUrl(launchService(['start'], { env }));
      const ask = async (path: string, body?: unknown) => {
        const headers = {
          authorization: `Bearer ${ADMIN_KEY}`,
          'content-type': 'application/json',
        };
        const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) };
        const response = await fetch(`${url}${path}`, { headers, ...init });
        return { status: response.status, text: await response.text() };
      };
      const usage = (user: string) =>
        ask('/api/usage', { events: [{ kilo_user_id: user, cost: 9 }] });
      expect((await usage(here)).text).toContain('"new_microdollars_used":9');
      const unavailable = await usage(away);
      expect([unavailable.status, JSON.parse(unavailable.text).error.details.shard]).toEqual([
        503,
        undefined,
      ]);
      expect(unavailable.text).toContain('shard \\"b\\"');
      const ready = await ask('/readyz');
      expect([ready.status, JSON.parse(ready.text)]).toMatchObject([
        200,
        {
          shards: [
            { name: 'home', status: 'ready' },
            { name: 'b', status: 'unavailable' },
          ],
        },
      ]);
      expect((await ask('/api/keys')).status).toBe(503);
      expect((await ask('/metrics')).text).toContain('microdollar_shard_open{shard="b"} 0');
      expect((await ask('/')).status).toBe(200);
      expect(await refused.ended).toBe(2);
    } finally {
      await endServices();
      own.remove();
    }
  });
});
