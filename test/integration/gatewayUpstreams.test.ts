import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readUpstreamsFile } from '../../src/gateway/proxy/upstreamEntry.js';
import { hostFor, listEntries } from '../../src/gateway/proxy/upstreams.js';
import { type ReplayUpstream, startReplayUpstream } from '../support/replayUpstream.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'microdollar-upstreams-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function fileOf(content: unknown): Promise<string> {
  const path = join(directory, `${Math.random()}.json`);
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

describe('one gateway before several providers', () => {
  let gateway: TestGateway;
  let user: TestUser;
  let maker: ReplayUpstream;
  let router: ReplayUpstream;

  beforeAll(async () => {
    [maker, router] = await Promise.all([startReplayUpstream(), startReplayUpstream()]);
    const path = await fileOf({
      upstreams: [
        { name: 'maker', api: 'openai', url: maker.url, key: 'key-of-maker', models: ['gpt-*'] },
        {
          name: 'proxy',
          api: 'openai',
          url: maker.url,
          models: ['proxied/*'],
          cost_header: 'X-LiteLLM-Response-Cost',
        },
        {
          name: 'router',
          api: ['openai', 'anthropic'],
          url: `${router.url}/api/v1`,
          key_env: 'ROUTER_KEY',
          models: ['anthropic/*', 'meta/*'],
          stream_options: false,
          reported_cost: false,
          headers: { 'X-Title': 'our gateway' },
        },
      ],
    });
    gateway = await startTestGateway({
      gateway: {
        upstreams: {},
        upstreamEntries: readUpstreamsFile(path, { ROUTER_KEY: 'key-of-router' }),
      },
    });
    user = await gateway.newUser();
    for (const [upstream, models] of [
      [maker, ['gpt-4.1-nano', 'o9']],
      [router, ['anthropic/claude-sonnet-4.5', 'gpt-4.1-nano', 'meta/llama-3']],
    ] as const) {
      upstream.scriptPath(/^GET .*\/models$/, (response) => {
        const data = models.map((id) => ({ id, object: 'model' }));
        response.end(JSON.stringify({ object: 'list', data }));
      });
    }
    router.scriptPath(/^POST /, (response) => {
      response.end(
        '{"id":"r","model":"anthropic/claude-sonnet-4.5","choices":[],' +
          '"usage":{"prompt_tokens":1000,"completion_tokens":100,"cost":9.99}}',
      );
    });
  });
  afterAll(async () => {
    await gateway?.stop();
    await maker?.close();
    await router?.close();
  });

  const post = async (path: string, body: object, headers: Record<string, string> = {}) => {
    const response = await fetch(gateway.url + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${user.key}`, ...headers },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, text, id: response.headers.get('x-microdollar-usage-id') };
  };

  it('sends each model to the provider that has it, with its key alone', async () => {
    const first = await post('/v1/chat/completions', { model: 'gpt-4.1-nano' });
    expect(maker.requests.at(-1)).toMatchObject({
      path: '/v1/chat/completions',
      headers: { authorization: 'Bearer key-of-maker' },
    });
    expect(await gateway.usage(first.id ?? '')).toMatchObject({ provider: 'maker' });
    const second = await post(
      '/v1/chat/completions',
      { model: 'anthropic/claude-sonnet-4.5' },
      { 'x-title': 'of the client' },
    );
    expect(router.requests.at(-1)).toMatchObject({
      path: '/api/v1/chat/completions',
      headers: { authorization: 'Bearer key-of-router', 'x-title': 'our gateway' },
    });
    expect(await gateway.usage(second.id ?? '')).toMatchObject({
      provider: 'router',
      input_tokens: 1000,
      price_source: 'genai-prices',
    });
    await post('/v1/messages', { model: 'anthropic/claude-sonnet-4.5' });
    expect(router.requests.at(-1)).toMatchObject({
      path: '/api/v1/messages',
      headers: { 'x-api-key': 'key-of-router' },
    });
    const keys = maker.requests.map(({ rawHeaders }) => rawHeaders.join());
    expect(keys.join()).not.toContain('key-of-router');
  });

  it('adds stream_options only where they are taken', async () => {
    await post('/v1/chat/completions', { model: 'meta/llama-3', stream: true });
    expect(String(router.requests.at(-1)?.body)).not.toContain('stream_options');
    await post('/v1/chat/completions', { model: 'gpt-4.1-nano', stream: true });
    expect(String(maker.requests.at(-1)?.body)).toContain('include_usage');
  });

  describe('a cost in a header', () => {
    const usage = { prompt_tokens: 1000, completion_tokens: 100 };
    const answers = (model: string, cost: string, more: object = {}, streamed = false) => {
      maker.scriptPath(/^POST .*completions$/, (response) => {
        const type = streamed ? 'text/event-stream' : 'application/json';
        response.writeHead(200, { 'content-type': type, 'x-litellm-response-cost': cost });
        const chunk = { id: 'c', model, choices: [], usage: { ...usage, ...more } };
        const text = JSON.stringify(chunk);
        response.end(streamed ? `data: ${text}\n\ndata: [DONE]\n\n` : text);
      });
      return post('/v1/chat/completions', { model, ...(streamed ? { stream: true } : {}) });
    };
    const rowOf = async (answer: ReturnType<typeof answers>) =>
      gateway.usage((await answer).id ?? '');

    it('is the cost where the upstream is said to report so', async () => {
      expect(await rowOf(answers('proxied/gpt-4o', '0.0123'))).toMatchObject({
        provider: 'proxy',
        cost: 12_300,
        price_source: 'upstream',
        reported_cost: '12300',
      });
    });

    it('of two reports the larger counts', async () => {
      const both = await rowOf(answers('proxied/gpt-4o', '0.0123', { cost: 0.02 }));
      expect(both).toMatchObject({ cost: 20_000 });
    });

    it.each(['0', '0.0', 'None', '-1', ''])('%j is no report', async (cost) => {
      const row = await rowOf(answers('proxied/gpt-4o', cost));
      expect(row).toMatchObject({ reported_cost: null });
      expect(row.price_source).not.toBe('upstream');
    });

    it('of a stream says nothing yet', async () => {
      const row = await rowOf(answers('proxied/gpt-4o', '0.0123', {}, true));
      expect(row).toMatchObject({ reported_cost: null });
    });

    it('is nothing to other upstreams', async () => {
      const row = await rowOf(answers('gpt-4o', '0.0123'));
      expect(row).toMatchObject({ provider: 'maker', cost: 3_500, reported_cost: null });
    });
  });

  it('refuses a model that none of them has, by name', async () => {
    const calls = maker.calls + router.calls;
    for (const body of [{ model: 'mistral-large' }, { model: 5 }, {}]) {
      const answer = await post('/v1/chat/completions', body);
      expect(answer.status).toBe(404);
      expect(JSON.parse(answer.text)).toMatchObject({
        error: { code: 'model_not_served', param: 'model' },
      });
    }
    const answer = await post('/v1/messages', { model: 'gpt-4.1-nano' });
    expect(JSON.parse(answer.text)).toMatchObject({ error: { type: 'not_found_error' } });
    expect(maker.calls + router.calls).toBe(calls);
  });

  it('lists of each the models that it serves', async () => {
    const list = await fetch(`${gateway.url}/v1/models`, {
      headers: { authorization: `Bearer ${user.key}` },
    });
    const { data } = (await list.json()) as { data: { id: string }[] };
    const served = ['gpt-4.1-nano', 'anthropic/claude-sonnet-4.5', 'meta/llama-3'];
    expect(data.map(({ id }) => id)).toEqual(served);
    await fetch(`${gateway.url}/v1/models/meta/llama-3`, {
      headers: { authorization: `Bearer ${user.key}` },
    });
    expect(router.requests.at(-1)?.path).toBe('/api/v1/models/meta/llama-3');
  });

  it('lists what answers when one does not', async () => {
    maker.scriptPath(/^GET .*\/models$/, (response) => void response.socket?.destroy());
    const list = await fetch(`${gateway.url}/v1/models`, {
      headers: { authorization: `Bearer ${user.key}` },
    });
    const { data } = (await list.json()) as { data: { id: string }[] };
    expect(data.map(({ id }) => id)).toEqual(['anthropic/claude-sonnet-4.5', 'meta/llama-3']);
  });
});

describe('the file', () => {
  const entry = { name: 'a', api: 'openai', url: 'https://a.example' };

  it('is asked before the environment, which is for every other model', () => {
    const models = ['a/*'];
    const listed = listEntries({ openai: { url: 'https://env.example' } }, [
      { name: 'a', api: 'openai', url: 'https://a.example', key: null, models },
    ]);
    expect(hostFor(listed, 'openai', 'a/b')).toBe('a.example');
    expect(hostFor(listed, 'openai', 'A/B')).toBe('a.example');
    expect(hostFor(listed, 'openai', 'b/a/x')).toBe('env.example');
    expect(hostFor(listed, 'anthropic', 'a/b')).toBe('api.anthropic.com');
  });

  it.each<[string, unknown, RegExp]>([
    ['no JSON', '{"key":"sk-secret"', /not valid JSON/],
    ['nothing', { upstreams: [] }, /upstreams/],
    ['no URL', { upstreams: [{ ...entry, url: 'sk-secret' }] }, /upstreams\[0\]\.url/],
    ['no API', { upstreams: [{ ...entry, api: 'gemini' }] }, /upstreams\[0\]\.api/],
    ['an unknown field', { upstreams: [{ ...entry, retries: 3 }] }, /retries/],
    ['no header', { upstreams: [{ ...entry, cost_header: 'a b' }] }, /\.cost_header must be/],
    [
      'a cost that is not to be believed',
      { upstreams: [{ ...entry, cost_header: 'x-cost', reported_cost: false }] },
      /\.cost_header names a cost/,
    ],
    ['an empty pattern', { upstreams: [{ ...entry, models: [''] }] }, /models\[0\]/],
    ['two keys', { upstreams: [{ ...entry, key: 'sk-secret', key_env: 'B' }] }, /\.key /],
    ['a variable that is not set', { upstreams: [{ ...entry, key_env: 'NOT_SET' }] }, /NOT_SET/],
    ['one name twice', { upstreams: [entry, { ...entry, models: ['x'] }] }, /a twice/],
    [
      'a header with a line break',
      { upstreams: [{ ...entry, headers: { 'x-a': 'b\r\nx: sk-secret' } }] },
      /headers/,
    ],
  ])('with %s is refused, naming the field and never a key', async (_name, content, message) => {
    const path = await fileOf(content);
    expect(() => readUpstreamsFile(path, {})).toThrow(message);
    expect(() => readUpstreamsFile(path, {})).not.toThrow(/sk-secret/);
    expect(() => readUpstreamsFile(path, {})).toThrow(
      expect.objectContaining({ code: 'invalid_request' }),
    );
  });

  it('that is not there is refused', () => {
    expect(() => readUpstreamsFile('/nowhere/at/all.json', {})).toThrow(/cannot be read/);
  });
});
