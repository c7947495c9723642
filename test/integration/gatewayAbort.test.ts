import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { createInFlightLimit } from '../../src/gateway/durable/inFlight.js';
import { WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import { openSocket, postBytes } from '../support/rawHttp.js';
import {
  startTestGateway,
  type TestGateway,
  type TestGatewayOptions,
  type TestUser,
  type UsageRow,
} from './gatewayHarness.js';

let gateway: TestGateway;
let user: TestUser;

async function start(options: TestGatewayOptions = {}): Promise<void> {
  gateway = await startTestGateway(options);
  user = await gateway.newUser();
}
afterEach(() => gateway?.stop());

const sse = (type: string, more: object = {}) =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;
const MESSAGE_START = sse('message_start', {
  message: {
    id: 'msg_1',
    model: 'claude-sonnet-4-5',
    content: [],
    usage: { input_tokens: 40, output_tokens: 1 },
  },
});
const textDelta = (text: string) =>
  sse('content_block_delta', { index: 0, delta: { type: 'text_delta', text } });
const CREATED = sse('response.created', {
  response: { id: 'resp_h', status: 'in_progress', model: 'gpt-5', output: [], usage: null },
});
const COMPLETED = sse('response.completed', {
  response: {
    id: 'resp_h',
    status: 'completed',
    model: 'gpt-5',
    output: [],
    usage: {
      input_tokens: 40,
      output_tokens: 50_000,
      output_tokens_details: { reasoning_tokens: 49_900 },
      total_tokens: 50_040,
    },
  },
});

interface Begun {
  provider: ServerResponse;
  leave(): void;
  row(): Promise<UsageRow>;
}

let names = 0;

/** A request whose answer is in the hands of the test; the client has seen `first`, if anything. */
async function begin(api: WireApi, body: object, first: string | null): Promise<Begun> {
  const model = `script:abort-${names++}`;
  const opened = new Promise<ServerResponse>((resolve) => {
    gateway.upstream.script(model.slice('script:'.length), (response) => {
      if (first !== null) {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(first);
      }
      resolve(response);
    });
  });
  const socket = await openSocket(gateway.url);
  socket.write(
    postBytes(
      WIRE_PATHS[api],
      { authorization: `Bearer ${user.key}` },
      JSON.stringify({ model, ...body }),
    ),
  );
  const provider = await opened;
  if (first !== null) await once(socket, 'data');
  return {
    provider,
    leave: () => void socket.destroy(),
    async row() {
      for (;;) {
        const rows = await gateway.rows<{ id: string }>(
          'select id from microdollar_usage where requested_model = $1',
          [model],
        );
        if (rows[0] !== undefined) return gateway.usage(rows[0].id);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
  };
}

const streamed = { stream: true };

describe('a client that leaves, by what the API bills', () => {
  it('messages: the provider is stopped at once, and what was seen is billed', async () => {
    await start();
    const seen = textDelta('w1 ').repeat(5);
    const { provider, leave, row } = await begin(
      'anthropic-messages',
      { ...streamed, max_tokens: 4_000 },
      MESSAGE_START + seen,
    );
    const stopped = once(provider, 'close');
    leave();
    await stopped;
    expect(provider.writableFinished).toBe(false);
    expect(await row()).toMatchObject({
      cancelled: true,
      has_error: false,
      input_tokens: 40,
      output_tokens: 4,
      estimated: 'partial_usage',
    });
  });

  it.each([
    ['with nothing seen yet', {}, MESSAGE_START],
    ['before the first byte', {}, null],
    ['with thinking that may be hidden', { thinking: { type: 'adaptive' } }, MESSAGE_START],
  ])('messages %s: never 0 for an unknown output', async (_name, more, first) => {
    await start();
    const { provider, leave, row } = await begin(
      'anthropic-messages',
      { ...streamed, ...more, max_tokens: 4_000 },
      first,
    );
    const stopped = once(provider, 'close');
    leave();
    await stopped;
    const { output_tokens, input_tokens, cancelled } = await row();
    expect(cancelled).toBe(true);
    expect(input_tokens).toBeGreaterThan(0);
    expect(output_tokens).toBeGreaterThan(0);
    expect(output_tokens).toBeLessThanOrEqual(4_000);
  });

  it('responses: hidden reasoning goes on, so it is read to its end and billed', async () => {
    await start();
    const body = { ...streamed, reasoning: { effort: 'high' } };
    const { provider, leave, row } = await begin('openai-responses', body, CREATED);
    leave();
    // The client's side is closed by now, and the provider goes on all the same.
    await gateway.usage((await probe()).id);
    expect(provider.destroyed).toBe(false);
    provider.end(COMPLETED);
    expect(await row()).toMatchObject({
      cancelled: true,
      input_tokens: 40,
      output_tokens: 50_000,
      estimated: null,
    });
  });

  it('a whole answer: read to its end', async () => {
    await start();
    const { provider, leave, row } = await begin('anthropic-messages', {}, null);
    leave();
    await gateway.usage((await probe()).id);
    expect(provider.destroyed).toBe(false);
    provider.writeHead(200, { 'content-type': 'application/json' });
    provider.end(
      '{"type":"message","content":[],"usage":{"input_tokens":3,"output_tokens":900},"stop_reason":"end_turn"}',
    );
    expect(await row()).toMatchObject({ cancelled: true, output_tokens: 900, estimated: null });
  });

  it('what has ended, though its connection is open, is whole', async () => {
    await start();
    const end =
      sse('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 2 } }) +
      sse('message_stop');
    const { leave, row } = await begin('anthropic-messages', streamed, MESSAGE_START + end);
    leave();
    expect(await row()).toMatchObject({ output_tokens: 2, estimated: null });
  });
});

/** Another request of the same payer, whole. */
async function probe(): Promise<{ status: number; id: string }> {
  const response = await fetch(gateway.url + WIRE_PATHS['openai-responses'], {
    method: 'POST',
    headers: { authorization: `Bearer ${user.key}` },
    body: '{"model":"gpt-5"}',
  });
  await response.arrayBuffer();
  return { status: response.status, id: response.headers.get('x-microdollar-usage-id') ?? '' };
}

describe('by the operator’s choice', () => {
  const chatChunk = 'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a word"}}]}\n\n';

  it('stop: everything is stopped', async () => {
    await start({ gateway: { onAbort: 'stop' } });
    for (const [api, first] of [
      ['openai-chat', chatChunk],
      ['openai-responses', CREATED],
      ['openai-chat', null],
    ] as const) {
      const { provider, leave, row } = await begin(api, streamed, first);
      const stopped = once(provider, 'close');
      leave();
      await stopped;
      const { output_tokens, cancelled } = await row();
      expect(cancelled).toBe(true);
      expect(output_tokens).toBeGreaterThan(0);
    }
  });

  it('drain: nothing is', async () => {
    await start({ gateway: { onAbort: 'drain' } });
    const { provider, leave, row } = await begin('anthropic-messages', streamed, MESSAGE_START);
    leave();
    await gateway.usage((await probe()).id);
    expect(provider.destroyed).toBe(false);
    provider.end(
      sse('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 300 } }) +
        sse('message_stop'),
    );
    expect(await row()).toMatchObject({ output_tokens: 300, estimated: null });
  });
});

describe('places of a payer', () => {
  it('are not held by what is only read to its end', async () => {
    await start({ gateway: { inFlight: createInFlightLimit(2) } });
    const left = [
      await begin('openai-responses', streamed, CREATED),
      await begin('openai-responses', streamed, CREATED),
    ];
    expect((await probe()).status).toBe(429);
    for (const { leave } of left) leave();
    while ((await probe()).status !== 200) await new Promise((resolve) => setTimeout(resolve, 10));
    for (const { provider } of left) expect(provider.destroyed).toBe(false);
    for (const { provider, row } of left) {
      provider.end(COMPLETED);
      expect(await row()).toMatchObject({ output_tokens: 50_000 });
    }
  });

  it('of such there are only so many: beyond, the provider is stopped', async () => {
    await start({ gateway: { limits: { drainsPerPayer: 1 } } });
    const first = await begin('openai-responses', streamed, CREATED);
    const second = await begin('openai-responses', streamed, CREATED);
    first.leave();
    await gateway.usage((await probe()).id);
    const stopped = once(second.provider, 'close');
    second.leave();
    await stopped;
    expect((await second.row()).output_tokens).toBeGreaterThan(0);
    expect(first.provider.destroyed).toBe(false);
    first.provider.end(COMPLETED);
    expect(await first.row()).toMatchObject({ output_tokens: 50_000 });
  });
});
