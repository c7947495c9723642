import { randomUUID } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { idOf } from '../../src/server/cloudEvents.js';
import { type Answer, startTestServer, type TestServer } from './serverHarness.js';

let service: TestServer;
beforeAll(async () => {
  service = await startTestServer();
});
afterAll(() => service?.stop());

const send = (events: unknown[], key?: string | null) =>
  service.post('/api/usage', { events }, key);
const first = (answer: Answer) => answer.body.results[0];

async function countRows(kiloUserId: string): Promise<number> {
  const result = await service.database.pool.query(
    'select count(*)::integer as n from microdollar_usage where kilo_user_id = $1',
    [kiloUserId],
  );
  return result.rows[0].n;
}

describe('POST /api/usage', () => {
  it('records, and answers a replay with the first answer', async () => {
    const user = await service.newUser();
    const event = { id: randomUUID(), kilo_user_id: user.id, cost: 1_250, model: 'm' };
    const answer = await send([event], user.key);
    expect(answer.status).toBe(200);
    expect(first(answer)).toEqual({
      id: event.id,
      status: 'recorded',
      created_at: expect.stringMatching(/^\d{4}-.*\.\d{6}Z$/),
      new_microdollars_used: 1_250,
    });
    const replay = await send([event], user.key);
    expect(first(replay)).toEqual({ ...first(answer), status: 'duplicate' });
    const conflict = await send([{ ...event, cost: 1 }], user.key);
    expect(first(conflict)).toMatchObject({
      status: 'rejected',
      error: { code: 'idempotency_conflict' },
    });
    expect(await countRows(user.id)).toBe(1);
  });

  it('answers in order, one result per event; a bad one harms no neighbour', async () => {
    const user = await service.newUser();
    const base = { kilo_user_id: user.id, cost: 10 };
    const ids = [randomUUID(), randomUUID()];
    const bad: [unknown, string, string?][] = [
      [{ ...base, cost: 1.5 }, 'invalid_event', 'cost'],
      [{ ...base, cost: 2 ** 53 }, 'invalid_event', 'cost'],
      [{ ...base, cost: '10' }, 'invalid_event', 'cost'],
      [{ ...base, cost: null }, 'invalid_event', 'cost'],
      [{ ...base, price: 1 }, 'invalid_event', 'price'],
      [{ ...base, metadata: { nonsense: 1 } }, 'invalid_event', 'metadata.nonsense'],
      [{ ...base, created_at: '2026-01-01T00:00:00' }, 'invalid_event', 'created_at'],
      [{ ...base, created_at: '2999-01-01T00:00:00Z' }, 'invalid_event', 'created_at'],
      [{ ...base, model: 'x'.repeat(10_000) }, 'invalid_event', 'model'],
      [{ ...base, organization_id: 'acme' }, 'invalid_event', 'organization_id'],
      [{ ...base, organization_id: randomUUID() }, 'unknown_organization', 'organization_id'],
      [{ cost: 10 }, 'invalid_event', 'kilo_user_id'],
      [null, 'invalid_event'],
      [[], 'invalid_event'],
      ['text', 'invalid_event'],
    ];
    const answer = await send(
      [{ ...base, id: ids[0] }, ...bad.map(([event]) => event), { ...base, id: ids[1] }],
      user.key,
    );
    expect(answer.status).toBe(200);
    const { results } = answer.body;
    expect(results).toHaveLength(bad.length + 2);
    expect(results[0]).toMatchObject({ id: ids[0], status: 'recorded' });
    expect(results.at(-1)).toMatchObject({ id: ids[1], status: 'recorded' });
    for (const [index, [, code, field]] of bad.entries()) {
      const result = results[index + 1];
      expect(result, JSON.stringify(bad[index])).toMatchObject({
        status: 'rejected',
        created_at: null,
        new_microdollars_used: null,
        error: { code, message: expect.any(String) },
      });
      if (field !== undefined) expect(result.error.details.field).toBe(field);
    }
    expect(await countRows(user.id)).toBe(2);
  });

  it('removes NUL bytes and keeps the event', async () => {
    const user = await service.newUser();
    const answer = await send([{ kilo_user_id: user.id, cost: 1, model: 'a\0b' }], user.key);
    expect(first(answer).status).toBe('recorded');
    const row = await service.database.pool.query(
      'select model from microdollar_usage where kilo_user_id = $1',
      [user.id],
    );
    expect(row.rows).toEqual([{ model: 'ab' }]);
  });

  it("lets a user's key write for that user alone", async () => {
    const [user, other] = [await service.newUser(), await service.newUser()];
    const answer = await send(
      [
        { kilo_user_id: other.id, cost: 5 },
        { kilo_user_id: `${user.id}\0`, cost: 5 },
        { kilo_user_id: user.id, cost: 5 },
      ],
      user.key,
    );
    expect(answer.body.results).toMatchObject([
      { status: 'rejected', error: { code: 'forbidden', details: { field: 'kilo_user_id' } } },
      { status: 'rejected', error: { code: 'forbidden' } },
      { status: 'recorded', new_microdollars_used: 5 },
    ]);
    expect(await countRows(other.id)).toBe(0);
  });

  it("refuses refunds and corrections with a user's key, which would be money", async () => {
    const user = await service.newUser();
    const organization_id = await service.newOrganization(user.id);
    const refund = { kilo_user_id: user.id, cost: -1 };
    const error = { code: 'forbidden', details: { field: 'cost' } };
    const pricing = { adjusts_usage_id: randomUUID(), price_source: 'own' };
    const correction = { ...refund, cost: 0, metadata: pricing };
    const answer = await send([refund, { ...refund, organization_id }, correction], user.key);
    expect(answer.body.results).toMatchObject([
      { error },
      { error },
      { error: { code: 'forbidden', details: { field: 'metadata.adjusts_usage_id' } } },
    ]);
    const settled = await service.post(
      `/api/holds/${randomUUID()}/settle`,
      { event: refund },
      user.key,
    );
    expect(settled.body).toMatchObject({ error });
    expect(await countRows(user.id)).toBe(0);
    const key = await service.newServiceKey(['usage:write']);
    expect(first(await send([refund], key))).toMatchObject({ new_microdollars_used: -1 });
    expect(first(await send([refund]))).toMatchObject({ new_microdollars_used: -2 });
  });

  it('lets a member write to the organization, and no stranger', async () => {
    const [member, stranger] = [await service.newUser(), await service.newUser()];
    const organization = await service.newOrganization(member.id);
    const event = (id: string) => ({
      kilo_user_id: id,
      organization_id: organization.toUpperCase(),
      cost: 7,
    });
    expect(first(await send([event(member.id)], member.key))).toMatchObject({
      status: 'recorded',
      new_microdollars_used: 7,
    });
    expect(first(await send([event(stranger.id)], stranger.key))).toMatchObject({
      status: 'rejected',
      error: { code: 'forbidden', details: { field: 'organization_id' } },
    });
    expect(first(await send([event(stranger.id)]))).toMatchObject({ status: 'recorded' });
  });

  it('lets a service key write for any user; one with an organization only there', async () => {
    const user = await service.newUser();
    const organization = await service.newOrganization();
    const key = await service.newServiceKey(['usage:write']);
    const event = { kilo_user_id: user.id, cost: 3 };
    expect(first(await send([event], key)).status).toBe('recorded');
    const unknown = first(await send([{ ...event, kilo_user_id: 'nobody' }], key));
    expect(unknown).toMatchObject({ status: 'rejected', error: { code: 'unknown_user' } });
    const limited = await service.newServiceKey(['usage:write'], organization);
    const answer = await send([event, { ...event, organization_id: organization }], limited);
    expect(answer.body.results).toMatchObject([
      { status: 'rejected', error: { code: 'forbidden' } },
      { status: 'recorded' },
    ]);
  });

  it('takes 1,000 events and refuses 1,001, naming the limit and the remedy', async () => {
    const user = await service.newUser();
    const events = Array.from({ length: 1_001 }, () => ({ kilo_user_id: user.id, cost: 1 }));
    const answer = await send(events, user.key);
    expect(answer.status).toBe(413);
    expect(answer.body.error).toMatchObject({
      code: 'payload_too_large',
      message: expect.stringMatching(/1001 events; send at most 1000 .*further requests/),
      details: { field: 'events', limit: 1_000 },
    });
    expect(await countRows(user.id)).toBe(0);
    const fits = await send(events.slice(1), user.key);
    expect(fits.body.results).toHaveLength(1_000);
    const balance = await service.ledger.getUserBalance(user.id);
    expect(balance).toBe(1_000);
  });
});

describe('a body that is no batch of events', () => {
  const cases: [string, unknown, number, string][] = [
    ['malformed JSON', '{"events": [', 400, 'invalid_request'],
    ['an empty body', '', 400, 'invalid_request'],
    ['an array', [], 400, 'invalid_request'],
    ['null', 'null', 400, 'invalid_request'],
    ['no events', {}, 400, 'invalid_request'],
    ['an empty list', { events: [] }, 400, 'invalid_request'],
    ['events that are no list', { events: {} }, 400, 'invalid_request'],
    ['an unknown field', { events: [{}], dry_run: true }, 400, 'invalid_request'],
    ['__proto__', '{"events":[{"__proto__":{"cost":1}}]}', 400, 'invalid_request'],
    ['deep nesting', `${'['.repeat(5_000)}${']'.repeat(5_000)}`, 400, 'invalid_request'],
    ['NaN', '{"events":[{"cost":NaN}]}', 400, 'invalid_request'],
    ['5 MiB', `{"events":["${'x'.repeat(5 * 1024 * 1024)}"]}`, 413, 'payload_too_large'],
  ];
  it.each(cases)('refuses %s', async (_name, body, status, code) => {
    const answer = await service.call('POST', '/api/usage', { body });
    expect(answer.status).toBe(status);
    expect(answer.body).toEqual({
      error: expect.objectContaining({ code, message: expect.any(String) }),
    });
  });

  it('names an unknown field and the known ones', async () => {
    const answer = await service.post('/api/usage', { events: [{}], dry_run: true });
    expect(answer.body.error).toMatchObject({
      message: 'dry_run is not a field; known: events',
      details: { field: 'dry_run' },
    });
  });

  it('refuses other types and compressed bodies with 415', async () => {
    const text = await service.call('POST', '/api/usage', {
      body: '{"events":[]}',
      headers: { 'content-type': 'text/plain' },
    });
    expect([text.status, text.body.error.code]).toEqual([415, 'invalid_request']);
    const response = await fetch(`${service.url}/api/usage`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
      body: gzipSync('{"events":[]}'),
    });
    expect(response.status).toBe(415);
    expect(response.headers.get('accept-encoding')).toBe('identity');
  });
});

describe('keys', () => {
  const event = { kilo_user_id: 'x', cost: 1 };
  it.each([
    ['no key', null],
    ['a wrong key', 'md_wrong'],
    ['a key never made', `md_${'A'.repeat(43)}`],
    ['a wrong admin key', 'admin-key-of-the-test'],
    ['a very long key', 'k'.repeat(4_000)],
  ])('answers 401 to %s', async (_name, key) => {
    const answer = await send([event], key);
    expect(answer.status).toBe(401);
    expect(answer.body.error.code).toBe('unauthorized');
    expect(answer.headers.get('www-authenticate')).toBe('Bearer');
  });

  it('answers 401 to a revoked key, 403 to one without the scope', async () => {
    const user = await service.newUser(['usage:read']);
    const answer = await send([event], user.key);
    expect(answer.status).toBe(403);
    expect(answer.body.error).toMatchObject({
      code: 'forbidden',
      message: expect.stringContaining('usage:write'),
      details: { scope: 'usage:write' },
    });
    const revoked = await service.call('DELETE', `/api/keys/${user.keyId}`);
    expect(revoked.status).toBe(200);
    expect((await send([event], user.key)).status).toBe(401);
  });

  it('refuses before it reads the body', async () => {
    const answer = await service.call('POST', '/api/usage', { key: null, body: '{"broken' });
    expect(answer.status).toBe(401);
  });

  it('never shows up in the log', async () => {
    const user = await service.newUser();
    await send([{ kilo_user_id: user.id, cost: 1 }], user.key);
    await service.query('usage.recent', undefined, user.key);
    const log = service.logLines.join('');
    expect(log).toContain(user.keyId);
    expect(log).not.toContain(user.key);
    expect(log).not.toContain('admin-key-of-the-tests');
  });
});

describe('CloudEvents', () => {
  const ONE = 'application/cloudevents+json';
  const BATCH = 'application/cloudevents-batch+json';
  const deliver = (body: unknown, type: string, key: string, headers = {}) =>
    service.call('POST', '/api/usage', {
      key,
      body,
      headers: { 'content-type': type, ...headers },
    });
  const eventOf = (user: string) => ({
    specversion: '1.0',
    id: randomUUID(),
    source: 'https://gateway.example/eu',
    type: 'microdollar.usage',
    subject: user,
    time: '2025-11-22T11:00:00.25+01:00',
    data: { cost: 1_250, model: 'gpt-4o', metadata: { feature: 'chat' } },
  });

  it('are usage events, once for each source and id', async () => {
    const user = await service.newUser();
    const event = {
      ...eventOf(user.id),
      traceparent: '00-ab-cd-01',
      datacontenttype: 'application/json',
    };
    const answer = await deliver(event, `${ONE}; charset=utf-8`, user.key);
    expect(answer.status).toBe(200);
    expect(first(answer)).toEqual({
      id: idOf(event.source, event.id),
      status: 'recorded',
      created_at: '2025-11-22T10:00:00.250000Z',
      new_microdollars_used: 1_250,
    });
    const again = await deliver(
      [event, { ...event, source: 'https://gateway.example/us' }],
      BATCH,
      user.key,
    );
    expect(again.body.results).toMatchObject([
      { ...first(answer), status: 'duplicate', new_microdollars_used: 2_500 },
      { id: idOf('https://gateway.example/us', event.id), status: 'recorded' },
    ]);
    const changed = await deliver({ ...event, data: { cost: 1 } }, ONE, user.key);
    expect([changed.status, changed.body.error.code]).toEqual([409, 'idempotency_conflict']);
    expect(await countRows(user.id)).toBe(2);
  });

  it('have an id that other programs can compute', () => {
    expect(idOf('urn:example:billing', 'req-81321')).toBe('11ed9929-cf44-5687-9d3c-214f664ec1a3');
  });

  it('may say their attributes in headers', async () => {
    const user = await service.newUser();
    const { data, ...attributes } = eventOf(user.id);
    const headers = Object.fromEntries(
      Object.entries({ ...attributes, source: 'https://b%C3%BCro.example/' }).map(
        ([name, value]) => [`ce-${name}`, value],
      ),
    );
    const answer = await deliver(data, 'application/json', user.key, headers);
    expect(first(answer)).toMatchObject({
      id: idOf('https://büro.example/', attributes.id),
      status: 'recorded',
    });
    const broken = await deliver(data, 'application/json', user.key, {
      ...headers,
      'ce-subject': '%zz',
    });
    expect([broken.status, broken.body.error.details.field]).toEqual([400, 'subject']);
    const missing = await service.call('POST', '/api/usage', { key: user.key, headers });
    expect([missing.status, missing.body.error.details.field]).toEqual([400, 'data']);
  });

  it('are refused by the name of the attribute; of a batch no other', async () => {
    const user = await service.newUser();
    const good = eventOf(user.id);
    const without = (name: string) => ({ ...good, [name]: undefined });
    const bad: [unknown, string][] = [
      [without('specversion'), 'specversion'],
      [{ ...good, specversion: '0.3' }, 'specversion'],
      [without('id'), 'id'],
      [{ ...good, id: '' }, 'id'],
      [without('source'), 'source'],
      [{ ...good, source: 'two words' }, 'source'],
      [without('type'), 'type'],
      [{ ...good, type: 'com.example.prompt' }, 'type'],
      [without('subject'), 'subject'],
      [{ ...good, time: 'yesterday' }, 'time'],
      [{ ...good, datacontenttype: 'application/xml' }, 'datacontenttype'],
      [without('data'), 'data'],
      [{ ...good, data: 'text' }, 'data'],
      [{ ...good, data: { ...good.data, id: randomUUID() } }, 'data.id'],
      [{ ...good, data: { ...good.data, kilo_user_id: 'other' } }, 'subject'],
      [{ ...good, data: { ...good.data, created_at: '2025-11-22T10:00:00Z' } }, 'time'],
      [{ ...good, data: { model: 'm' } }, 'cost'],
      [{ ...good, data: { ...good.data, price: 1 } }, 'price'],
    ];
    const alone = await Promise.all(bad.map(([event]) => deliver(event, ONE, user.key)));
    expect(
      alone.map(({ status, body }) => [status, body.error.code, body.error.details.field]),
    ).toEqual(bad.map(([, field]) => [400, 'invalid_event', field]));
    const together = await deliver([...bad.map(([event]) => event), good], BATCH, user.key);
    const results: { status: string; error?: { details: { field: string } } }[] =
      together.body.results;
    expect(together.status).toBe(200);
    expect(results.map(({ error }) => error?.details.field)).toEqual([
      ...bad.map(([, field]) => field),
      undefined,
    ]);
    expect(results.at(-1)?.status).toBe('recorded');
    expect(await countRows(user.id)).toBe(1);
  });

  it("are written with a user's key for that user alone", async () => {
    const [user, other] = [await service.newUser(), await service.newUser()];
    const answer = await deliver(eventOf(other.id), ONE, user.key);
    expect([answer.status, answer.body.error.code]).toEqual([403, 'forbidden']);
    const list = await deliver([eventOf(user.id)], ONE, user.key);
    expect([list.status, list.body.error.code]).toEqual([400, 'invalid_event']);
    const none = await deliver([], BATCH, user.key);
    expect([none.status, none.body.error.message]).toEqual([400, 'must hold at least one event']);
  });
});
