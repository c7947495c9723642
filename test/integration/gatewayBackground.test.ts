import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openSocket, postBytes } from '../support/rawHttp.js';
import {
  startTestGateway,
  type TestGateway,
  type TestUser,
  UPSTREAM_KEYS,
} from './gatewayHarness.js';

let gateway: TestGateway;
let user: TestUser;
/** The provider's memory: what GET says of a response. */
let responses: Map<string, object>;

const QUEUED = { object: 'response', background: true, error: null, output: [], usage: null };
const USAGE = { input_tokens: 1_000, output_tokens: 5_000, total_tokens: 6_000 };

beforeEach(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
  responses = new Map();
  answerForResponses();
});
afterEach(() => gateway?.stop());

function answerForResponses(): void {
  const { upstream } = gateway;
  upstream.scriptPath(/^POST \/v1\/responses$/, (response, request) => {
    const id = `resp_${responses.size + 1}`;
    const body = { ...QUEUED, id, model: 'gpt-5', status: 'queued' };
    responses.set(id, body);
    if (String(request.body).includes('"background":true')) sendJson(response, body);
    else sendJson(response, { ...body, status: 'completed', usage: USAGE });
  });
  upstream.scriptPath(/^(GET|DELETE) \/v1\/responses\/[^/]+$/, (response, { path, method }) => {
    const id = path.split('?', 1)[0]?.split('/').at(-1) ?? '';
    const body = responses.get(id);
    if (body === undefined) {
      response.writeHead(404).end('{"error":{"message":"not found"}}');
    } else if (method === 'DELETE') {
      responses.delete(id);
      sendJson(response, { id, object: 'response', deleted: true });
    } else sendJson(response, body);
  });
  upstream.scriptPath(/^POST \/v1\/responses\/[^/]+\/cancel$/, (response, { path }) => {
    const id = path.split('/').at(-2) ?? '';
    end(id, 'cancelled', null);
    sendJson(response, responses.get(id) ?? {});
  });
}

function sendJson(response: ServerResponse, body: object): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function end(id: string, status = 'completed', usage: object | null = USAGE): void {
  responses.set(id, { ...responses.get(id), status, usage });
}

async function call(method: string, path: string, key = user.key, body?: object) {
  const response = await fetch(gateway.url + path, {
    method,
    headers: { authorization: `Bearer ${key}`, 'x-microdollar-feature': 'research' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return {
    status: response.status,
    json: JSON.parse(text),
    usageId: response.headers.get('x-microdollar-usage-id') ?? '',
  };
}

const begin = (more: object = {}) =>
  call('POST', '/v1/responses', user.key, {
    model: 'gpt-5',
    input: 'x',
    background: true,
    ...more,
  });
const recorded = () => gateway.rows('select id from microdollar_usage');
const intents = () => gateway.rows('select id from gateway_intents');
const openResponses = () =>
  gateway.rows('select usage_id from gateway_responses where settled_at is null');

describe('a response in the background', () => {
  it('is answered as the provider answers, and metered when it has ended', async () => {
    const begun = await begin();
    expect([begun.status, begun.json.status]).toEqual([200, 'queued']);
    expect(await openResponses()).toEqual([{ usage_id: begun.usageId }]);
    while ((await intents()).length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await recorded()).toEqual([]);
    end('resp_1');
    expect(await gateway.usage(begun.usageId)).toMatchObject({
      kilo_user_id: user.id,
      api_kind: 'openai_responses',
      input_tokens: 1_000,
      output_tokens: 5_000,
      cost: 51_250,
      estimated: null,
      has_error: false,
      cancelled: false,
      feature: 'research',
      message_id: 'resp_1',
      http_ip: '127.0.0.1',
    });
    while ((await openResponses()).length > 0) await new Promise((done) => setTimeout(done, 10));
    expect(await recorded()).toHaveLength(1);
    const asked = gateway.upstream.requests.filter(({ method }) => method === 'GET');
    expect(asked[0]?.headers.authorization).toBe(`Bearer ${UPSTREAM_KEYS.openai}`);
  });

  it.each(['true', '"true"', '1'])('is one however its request says so: %s', async (yes) => {
    const body = `{"model":"gpt-5","input":"x","b\\u0061ckground":${yes}}`;
    gateway.upstream.scriptPath(/^POST \/v1\/responses$/, (response) => {
      responses.set('resp_1', { ...QUEUED, id: 'resp_1', model: 'gpt-5', status: 'queued' });
      sendJson(response, responses.get('resp_1') ?? {});
    });
    const answer = await fetch(`${gateway.url}/v1/responses`, {
      method: 'POST',
      headers: { authorization: `Bearer ${user.key}` },
      body,
    });
    expect(answer.status).toBe(200);
    expect(await openResponses()).toHaveLength(1);
    expect(await recorded()).toEqual([]);
  });

  it('that failed costs nothing; one without usage is estimated', async () => {
    const failed = await begin();
    responses.set('resp_1', { ...responses.get('resp_1'), status: 'failed', error: { code: 'x' } });
    expect(await gateway.usage(failed.usageId)).toMatchObject({ cost: 0, has_error: true });
    const silent = await begin();
    end('resp_2', 'completed', null);
    expect(await gateway.usage(silent.usageId)).toMatchObject({ estimated: 'missing_usage' });
  });

  it('is metered before its client sees that it has ended', async () => {
    const slow = await startTestGateway({ after: gateway, gateway: { followIntervalMs: 1e8 } });
    try {
      const first = gateway;
      gateway = slow;
      const begun = await begin();
      expect((await call('GET', '/v1/responses/resp_1')).json.status).toBe('queued');
      expect(await recorded()).toEqual([]);
      end('resp_1');
      expect((await call('GET', '/v1/responses/resp_1')).json.status).toBe('completed');
      expect(await recorded()).toEqual([{ id: begun.usageId }]);
      // Again changes nothing.
      await call('GET', '/v1/responses/resp_1');
      expect(await recorded()).toHaveLength(1);
      gateway = first;
    } finally {
      await slow.halt();
    }
  });

  it('is followed by whoever serves after a restart', async () => {
    const begun = await begin();
    await gateway.halt();
    end('resp_1');
    const next = await startTestGateway({ after: gateway });
    gateway = next;
    expect(await next.usage(begun.usageId)).toMatchObject({
      kilo_user_id: user.id,
      output_tokens: 5_000,
      feature: 'research',
      // Personal: kept nowhere while nobody serves.
      http_ip: null,
      estimated: null,
    });
    expect((await call('GET', '/v1/responses/resp_1')).status).toBe(200);
  });

  it('that the provider knows nothing of is estimated in the end', async () => {
    const begun = await begin({ max_output_tokens: 50 });
    responses.clear();
    const row = await gateway.usage(begun.usageId);
    expect(row).toMatchObject({ estimated: 'missing_usage' });
    expect(row.output_tokens).toBeGreaterThan(0);
    expect(row.output_tokens).toBeLessThanOrEqual(50);
  }, 120_000);

  it('streamed: its client may leave, the provider goes on by itself', async () => {
    const opened = new Promise<ServerResponse>((resolve) => {
      gateway.upstream.scriptPath(/^POST \/v1\/responses$/, (response) => {
        responses.set('resp_s', { ...QUEUED, id: 'resp_s', model: 'gpt-5', status: 'in_progress' });
        const created = { type: 'response.created', response: responses.get('resp_s') };
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(`event: response.created\ndata: ${JSON.stringify(created)}\n\n`);
        resolve(response);
      });
    });
    const socket = await openSocket(gateway.url);
    let head = '';
    socket.on('data', (chunk) => {
      head += String(chunk);
    });
    const body = '{"model":"gpt-5","background":true,"stream":true,"input":"x"}';
    socket.write(postBytes('/v1/responses', { authorization: `Bearer ${user.key}` }, body));
    const provider = await opened;
    while (!head.includes('response.created')) await once(socket, 'data');
    const closed = once(provider, 'close');
    socket.destroy();
    await closed;
    await expect.poll(openResponses).not.toEqual([]);
    end('resp_s');
    const id = /x-microdollar-usage-id: (\S+)/.exec(head)?.[1] ?? '';
    expect(await gateway.usage(id)).toMatchObject({ output_tokens: 5_000, estimated: null });
  });

  it('streamed: known to others from the event that names it, and recorded once', async () => {
    const event = (type: string, response: object) =>
      `event: ${type}\ndata: ${JSON.stringify({ type, response })}\n\n`;
    const opened = new Promise<ServerResponse>((resolve) => {
      gateway.upstream.scriptPath(/^POST \/v1\/responses$/, (response) => {
        responses.set('resp_t', { ...QUEUED, id: 'resp_t', model: 'gpt-5', status: 'in_progress' });
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(event('response.created', responses.get('resp_t') ?? {}));
        resolve(response);
      });
    });
    const answer = fetch(`${gateway.url}/v1/responses`, {
      method: 'POST',
      headers: { authorization: `Bearer ${user.key}` },
      body: '{"model":"gpt-5","background":true,"stream":true,"input":"x"}',
    });
    const provider = await opened;
    await expect.poll(openResponses).not.toEqual([]);
    expect(await intents()).toEqual([]);
    const [{ is_left: isLeft } = {}] = await gateway.rows(
      "select look_at > now() + interval '1 minute' as is_left from gateway_responses",
    );
    expect(isLeft).toBe(true);
    // As if this process had died, and another found the response when its lease was over; it lives, and may
    // renew it once.
    end('resp_t');
    const { headers } = await answer;
    const id = headers.get('x-microdollar-usage-id') ?? '';
    const elsewhere = async () => {
      await gateway.rows('update gateway_responses set look_at = now() where settled_at is null');
      return await recorded();
    };
    await expect.poll(elsewhere).toEqual([{ id }]);
    expect(await gateway.usage(id)).toMatchObject({ output_tokens: 5_000, estimated: null });
    provider.end(event('response.completed', responses.get('resp_t') ?? {}));
    expect(await (await answer).text()).toContain('response.completed');
    expect(await recorded()).toEqual([{ id }]);
    // Whoever recorded it notes that after.
    await expect.poll(openResponses).toEqual([]);
  });

  it('has an intent of its own kind before the provider is called', async () => {
    const seen = new Promise<unknown[]>((resolve) => {
      gateway.upstream.scriptPath(/^POST \/v1\/responses$/, (response) => {
        gateway.rows('select api_kind from gateway_intents').then((rows) => {
          sendJson(response, { ...QUEUED, id: 'resp_1', model: 'gpt-5', status: 'queued' });
          resolve(rows);
        });
      });
    });
    await begin();
    expect(await seen).toEqual([{ api_kind: 'openai_background' }]);
    expect(await gateway.rows('select api_kind from gateway_responses')).toEqual([
      { api_kind: 'openai_responses' },
    ]);
  });

  it('streamed to its end is metered as any other', async () => {
    gateway.upstream.scriptPath(/^POST \/v1\/responses$/, (response) => {
      const done = { ...QUEUED, id: 'resp_e', model: 'gpt-5', status: 'completed', usage: USAGE };
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(`data: ${JSON.stringify({ type: 'response.completed', response: done })}\n\n`);
    });
    const response = await fetch(`${gateway.url}/v1/responses`, {
      method: 'POST',
      headers: { authorization: `Bearer ${user.key}` },
      body: '{"model":"gpt-5","background":true,"stream":true}',
    });
    await response.text();
    expect(await recorded()).toHaveLength(1);
    expect(await openResponses()).toEqual([]);
  });
});

describe('/v1/responses/{id}', () => {
  it('is for the key that made it, and no other', async () => {
    const other = await gateway.newUser();
    const second = await gateway.newKey(user.id, null);
    await begin();
    await call('POST', '/v1/responses', user.key, { model: 'gpt-5', input: 'x' });
    for (const id of ['resp_1', 'resp_2']) {
      expect((await call('GET', `/v1/responses/${id}`)).json).toMatchObject({ id });
      const calls = gateway.upstream.requests.filter(({ path }) => path.endsWith(id)).length;
      for (const key of [other.key, second]) {
        const refused = await call('GET', `/v1/responses/${id}`, key);
        expect(refused.status).toBe(404);
        expect(refused.json.error).toMatchObject({ code: 'not_found', param: 'response_id' });
        expect((await call('DELETE', `/v1/responses/${id}`, key)).status).toBe(404);
        expect((await call('POST', `/v1/responses/${id}/cancel`, key)).status).toBe(404);
      }
      const now = gateway.upstream.requests.filter(
        ({ path, method }) => path.endsWith(id) && method === 'DELETE',
      );
      expect([calls > 0, now.length]).toEqual([true, 0]);
    }
    expect((await call('GET', '/v1/responses/resp_unknown')).status).toBe(404);
  });

  it('is gone on from by its user, and no other', async () => {
    const other = await gateway.newUser();
    const second = await gateway.newKey(user.id, null);
    await begin();
    await call('POST', '/v1/responses', user.key, { model: 'gpt-5', input: 'x' });
    // The follower looks at what is in the background meanwhile.
    const posts = () => gateway.upstream.requests.filter(({ method }) => method === 'POST').length;
    for (const id of ['resp_1', 'resp_2']) {
      const body = { model: 'gpt-5', input: 'y', previous_response_id: id };
      const before = posts();
      for (const path of ['/v1/responses', '/v1/responses/compact']) {
        const refused = await call('POST', path, other.key, body);
        expect([refused.status, refused.json.error.param]).toEqual([404, 'previous_response_id']);
      }
      expect(posts()).toBe(before);
      for (const key of [user.key, second]) {
        expect((await call('POST', '/v1/responses', key, body)).status).toBe(200);
      }
    }
    // Of which nothing is known here.
    const body = { model: 'gpt-5', input: 'y', previous_response_id: 'resp_unknown' };
    expect((await call('POST', '/v1/responses', other.key, body)).status).toBe(200);
  });

  it('is known to other processes, and after a restart', async () => {
    const other = await gateway.newUser();
    await begin();
    await call('POST', '/v1/responses', user.key, { model: 'gpt-5', input: 'x' });
    const first = gateway;
    const elsewhere = await startTestGateway({ after: first });
    gateway = elsewhere;
    const check = async () => {
      for (const id of ['resp_1', 'resp_2']) {
        expect((await call('GET', `/v1/responses/${id}`)).json).toMatchObject({ id });
        expect((await call('GET', `/v1/responses/${id}`, other.key)).status).toBe(404);
        const body = { model: 'gpt-5', input: 'y', store: false, previous_response_id: id };
        // The follower looks at what is in the background meanwhile.
        const posts = () =>
          elsewhere.upstream.requests.filter(({ method }) => method === 'POST').length;
        const before = posts();
        const refused = await call('POST', '/v1/responses', other.key, body);
        expect([refused.status, refused.json.error.param]).toEqual([404, 'previous_response_id']);
        expect(posts()).toBe(before);
        expect((await call('POST', '/v1/responses', user.key, body)).status).toBe(200);
      }
    };
    await check();
    await first.halt();
    await elsewhere.halt();
    gateway = await startTestGateway({ after: elsewhere });
    await check();
  });

  it('has items that its user alone refers to, in whatever process and after a restart', async () => {
    const other = await gateway.newUser();
    const second = await gateway.newKey(user.id, null);
    const item = (id: string) => ({ id, type: 'message', role: 'assistant', content: [] });
    gateway.upstream.scriptPath(/^POST \/v1\/responses(\/input_tokens)?$/, (response, request) => {
      const body = { id: 'resp_1', object: 'response', model: 'gpt-5', status: 'completed' };
      const { stream } = JSON.parse(String(request.body));
      if (stream !== true) {
        sendJson(response, { ...body, output: [item('msg_1'), item('ig_1')], usage: USAGE });
        return;
      }
      const events = [
        { type: 'response.created', response: { ...body, status: 'in_progress', output: [] } },
        { type: 'response.output_item.added', item: item('msg_2') },
        { type: 'response.completed', response: { ...body, output: [], usage: USAGE } },
      ];
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.end(events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(''));
    });
    await call('POST', '/v1/responses', user.key, { model: 'gpt-5', input: 'x' });
    const stream = await fetch(`${gateway.url}/v1/responses`, {
      method: 'POST',
      headers: { authorization: `Bearer ${user.key}` },
      body: JSON.stringify({ model: 'gpt-5', input: 'x', stream: true }),
    });
    expect(await stream.text()).toContain('msg_2');
    const named = [
      { type: 'item_reference', id: 'msg_1' },
      { id: 'msg_2' },
      { type: 'image_generation_call', id: 'ig_1' },
      { type: 'message', id: 'msg_1', role: 'assistant', content: 'x' },
    ];
    const check = async () => {
      for (const reference of named) {
        const body = { model: 'gpt-5', input: [{ role: 'user', content: 'y' }, reference] };
        for (const path of ['/v1/responses', '/v1/responses/input_tokens']) {
          const calls = gateway.upstream.calls;
          const refused = await call('POST', path, other.key, body);
          expect([refused.status, refused.json.error.param]).toEqual([404, 'input']);
          expect(refused.json.error.message).toContain(reference.id);
          expect(gateway.upstream.calls).toBe(calls);
          for (const key of [user.key, second]) {
            expect((await call('POST', path, key, body)).status).toBe(200);
          }
        }
      }
      // Of which nothing is known here: what has its own content may pass.
      const unknown = { id: 'msg_9', type: 'message', role: 'user', content: 'x' };
      const send = (input: object) =>
        call('POST', '/v1/responses', user.key, { model: 'gpt-5', input: [input] });
      expect((await send(unknown)).status).toBe(200);
      expect((await send({ type: 'item_reference', id: 'msg_9' })).status).toBe(404);
      expect((await send({ type: 'item_reference', id: 'msg\0' })).status).toBe(404);
    };
    await check();
    const first = gateway;
    await first.halt();
    gateway = await startTestGateway({ after: first });
    await check();
  });

  it('that its provider does not keep is kept by nobody', async () => {
    gateway.upstream.scriptPath(/^POST \/v1\/responses\/compact$/, (response) => {
      sendJson(response, { id: 'resp_c', object: 'response.compaction', output: [], usage: USAGE });
    });
    await call('POST', '/v1/responses/compact', user.key, { model: 'gpt-5', input: 'x' });
    await call('POST', '/v1/responses', user.key, { model: 'gpt-5', input: 'x', store: false });
    expect(await gateway.rows('select response_id from gateway_responses')).toEqual([]);
    await call('POST', '/v1/responses', user.key, { model: 'gpt-5', input: 'x' });
    expect(
      await gateway.rows('select response_id, settled_at is null as open from gateway_responses'),
    ).toEqual([{ response_id: 'resp_2', open: false }]);
  });

  it('cancelled: what was made until then is billed', async () => {
    const begun = await begin({ max_output_tokens: 4_000 });
    expect((await call('POST', '/v1/responses/resp_1/cancel')).json.status).toBe('cancelled');
    const row = await gateway.usage(begun.usageId);
    expect(row).toMatchObject({ cancelled: true, estimated: 'missing_usage' });
    expect(row.output_tokens).toBeGreaterThan(0);
  });

  it('cannot be deleted before it is metered', async () => {
    const begun = await begin();
    const early = await call('DELETE', '/v1/responses/resp_1');
    expect([early.status, early.json.error.code]).toEqual([409, 'conflict']);
    expect(responses.has('resp_1')).toBe(true);
    end('resp_1');
    expect((await call('DELETE', '/v1/responses/resp_1')).json.deleted).toBe(true);
    expect(await gateway.usage(begun.usageId)).toMatchObject({ output_tokens: 5_000 });
  });

  it('input_items and its query pass', async () => {
    gateway.upstream.scriptPath(
      /^GET \/v1\/responses\/[^/]+\/input_items$/,
      (response, { path }) => {
        sendJson(response, { object: 'list', path });
      },
    );
    await begin();
    const { json } = await call('GET', '/v1/responses/resp_1/input_items?limit=1&after=a');
    expect(json.path).toBe('/v1/responses/resp_1/input_items?limit=1&after=a');
  });
});

it('without a place to keep them, responses in the background are refused by name', async () => {
  const bare = await startTestGateway({ withoutResponses: true });
  try {
    const { key } = await bare.newUser();
    const calls = bare.upstream.calls;
    const response = await fetch(`${bare.url}/v1/responses`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: '{"model":"gpt-5","background":true}',
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param: 'background' } });
    expect(bare.upstream.calls).toBe(calls);
  } finally {
    await bare.stop();
  }
});
