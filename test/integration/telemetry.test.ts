import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestTelemetry, type TestTelemetry } from '../support/openTestTelemetry.js';
import {
  type OtlpReceiver,
  type ReceivedSpan,
  startOtlpReceiver,
} from '../support/otlpReceiver.js';
import {
  startTestGateway,
  type TestGateway,
  type TestUser,
  UPSTREAM_KEYS,
} from './gatewayHarness.js';

/** A service whose spans and metrics go to a collector in this process. */
const CALLER = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16) };
const PROMPT = 'a secret that only the provider may read';
const ADMIN_KEY = 'admin-key-of-the-tests';
const SERVER = 2;
const CLIENT = 3;

let receiver: OtlpReceiver;
let telemetry: TestTelemetry;
let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  receiver = await startOtlpReceiver();
  telemetry = await openTestTelemetry({
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=ours',
    OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    OTEL_SERVICE_NAME: 'ledger-of-tests',
  });
  gateway = await startTestGateway({
    ledger: { tracer: telemetry.tracer ?? undefined },
    server: { registries: [telemetry.registry], adminKey: ADMIN_KEY },
    holds: 'strict',
  });
  telemetry.exportMetrics(() => gateway.server.readMetrics());
  user = await gateway.newUser();
});
afterAll(async () => {
  await gateway?.stop();
  await telemetry?.close();
  await receiver?.close();
});

function send(body: object, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${user.key}`,
      'content-type': 'application/json',
      ...headers,
    },
    body: JSON.stringify({ messages: [{ role: 'user', content: PROMPT }], ...body }),
  });
}

/** The spans of a trace; waits until those by the names have come. */
async function spansOf(traceId: string, ...names: string[]): Promise<ReceivedSpan[]> {
  for (;;) {
    await telemetry.flush();
    const found = receiver.spans.filter((span) => span.traceId === traceId);
    if (names.every((name) => found.some((span) => span.name === name))) return found;
    await sleep(20);
  }
}

const named = (spans: readonly ReceivedSpan[], name: string) =>
  spans.find((span) => span.name === name) as ReceivedSpan;

describe('a request through the gateway', () => {
  let spans: ReceivedSpan[];
  let usageId: string;

  beforeAll(async () => {
    const answer = await send(
      { model: 'gpt-4o', stream: true, max_tokens: 500 },
      {
        traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-01`,
        tracestate: 'vendor=secret-state',
      },
    );
    usageId = answer.headers.get('x-microdollar-usage-id') ?? '';
    await answer.text();
    spans = await spansOf(
      CALLER.traceId,
      'POST /v1/chat/completions',
      'microdollar.gateway.admit',
      'chat gpt-4o',
      'microdollar.gateway.settle',
    );
  });

  it("continues the caller's trace", () => {
    const request = named(spans, 'POST /v1/chat/completions');
    expect(request).toMatchObject({
      kind: SERVER,
      parentSpanId: CALLER.spanId,
      status: 0,
      attributes: {
        'http.request.method': 'POST',
        'http.route': '/v1/chat/completions',
        'http.response.status_code': 200,
        'microdollar.answered': true,
      },
    });
    const children = spans.filter((span) => span !== request);
    expect(children.map((span) => span.parentSpanId)).toEqual(children.map(() => request.spanId));
  });

  it("has the provider's work by the GenAI conventions, with our cost and the row's id", async () => {
    const row = await gateway.usage(usageId);
    const call = named(spans, 'chat gpt-4o');
    expect(call.kind).toBe(CLIENT);
    expect(call.endedAt).toBeGreaterThan(call.startedAt);
    expect(call.attributes).toEqual({
      'gen_ai.operation.name': 'chat',
      'gen_ai.provider.name': 'openai',
      'gen_ai.request.model': 'gpt-4o',
      'gen_ai.request.max_tokens': 500,
      'gen_ai.request.stream': true,
      'gen_ai.response.model': row.model,
      'gen_ai.response.id': row.message_id,
      'gen_ai.response.finish_reasons': [row.finish_reason],
      'gen_ai.response.time_to_first_chunk': expect.any(Number),
      'gen_ai.usage.input_tokens': row.input_tokens,
      'gen_ai.usage.output_tokens': row.output_tokens,
      'gen_ai.usage.cache_read.input_tokens': row.cache_hit_tokens,
      'gen_ai.usage.cache_creation.input_tokens': row.cache_write_tokens,
      ...(row.reasoning_tokens === null
        ? {}
        : { 'gen_ai.usage.reasoning.output_tokens': row.reasoning_tokens }),
      'http.response.status_code': 200,
      'server.address': '127.0.0.1',
      'server.port': Number(new URL(gateway.upstream.url).port),
      'microdollar.api': 'openai_chat',
      'microdollar.cost_microdollars': row.cost,
      'microdollar.outcome': 'complete',
      'microdollar.usage.id': usageId,
    });
    expect(row.cost).toBeGreaterThan(0);
    expect(named(spans, 'microdollar.gateway.settle').attributes).toMatchObject({
      'microdollar.durable': 'database',
      'microdollar.usage.id': usageId,
    });
  });

  it('is linked to from the statement that wrote its usage', async () => {
    const settle = named(spans, 'microdollar.gateway.settle');
    const records = receiver.spans.filter((span) => span.name === 'microdollar.record');
    const linked = records.filter((span) =>
      span.links.some((link) => link.spanId === settle.spanId),
    );
    expect(linked).toHaveLength(1);
    expect(linked[0]).toMatchObject({
      parentSpanId: null,
      attributes: { 'microdollar.events': 1 },
    });
  });

  it('tells no key, no prompt, no payer, and no provider who asked', () => {
    const sent = receiver.text();
    expect(sent).toContain(usageId);
    for (const secret of [user.key, user.id, PROMPT, ...Object.values(UPSTREAM_KEYS)]) {
      expect(sent).not.toContain(secret);
    }
    const { headers } = gateway.upstream.requests.at(-1) ?? { headers: {} };
    expect(headers).not.toHaveProperty('traceparent');
    expect(headers).not.toHaveProperty('tracestate');
  });

  it('names the service as the standard variables say', () => {
    expect(receiver.resource).toMatchObject({
      'service.name': 'ledger-of-tests',
      'service.version': '0.0.0-test',
      'deployment.environment.name': 'test',
    });
    const traces = receiver.requests.find(({ path }) => path === '/v1/traces');
    expect(traces).toMatchObject({
      headers: { 'x-tenant': 'ours', 'content-encoding': 'gzip' },
    });
  });
});

describe('what is allowed besides', () => {
  it('are the payer, and a traceparent of ours for providers', async () => {
    const allowing = await startTestGateway({
      ledger: { tracer: telemetry.tracer ?? undefined },
      gateway: { traces: { payer: true, upstream: true } },
    });
    const member = await allowing.newUser();
    const organization = await allowing.newOrganization(10, member.id);
    const traceId = 'c'.repeat(32);
    const answer = await fetch(`${allowing.url}/v1/chat/completions`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${member.key}`,
        'x-microdollar-organization-id': organization,
        traceparent: `00-${traceId}-${CALLER.spanId}-01`,
        tracestate: 'vendor=secret-state',
      },
      body: JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] }),
    });
    await answer.text();
    const call = named(await spansOf(traceId, 'chat gpt-4o'), 'chat gpt-4o');
    expect(call.attributes).toMatchObject({
      'microdollar.payer.user_id': member.id,
      'microdollar.payer.organization_id': organization,
    });
    const headers = allowing.upstream.requests.at(-1)?.headers;
    expect(headers?.traceparent).toBe(`00-${traceId}-${call.spanId}-01`);
    expect(headers).not.toHaveProperty('tracestate');
    await allowing.stop();
  });
});

describe('a response in the background', () => {
  it('has its usage in the trace of its request, once that is recorded', async () => {
    const traceId = 'e'.repeat(32);
    const response = { id: 'resp_1', object: 'response', model: 'gpt-5', error: null, output: [] };
    gateway.upstream.scriptPath(/^POST \/v1\/responses$/, (answer) => {
      answer.writeHead(200, { 'content-type': 'application/json' });
      answer.end(JSON.stringify({ ...response, status: 'queued', usage: null }));
    });
    gateway.upstream.scriptPath(/^GET \/v1\/responses\/resp_1$/, (answer) => {
      const usage = { input_tokens: 1_000, output_tokens: 5_000, total_tokens: 6_000 };
      answer.writeHead(200, { 'content-type': 'application/json' });
      answer.end(JSON.stringify({ ...response, status: 'completed', usage }));
    });
    const answer = await fetch(`${gateway.url}/v1/responses`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${user.key}`,
        'content-type': 'application/json',
        traceparent: `00-${traceId}-${CALLER.spanId}-01`,
      },
      body: JSON.stringify({ model: 'gpt-5', input: PROMPT, background: true }),
    });
    const usageId = answer.headers.get('x-microdollar-usage-id');
    await answer.text();
    const begun = await spansOf(traceId, 'POST /v1/responses', 'chat gpt-5');
    expect(named(begun, 'chat gpt-5').attributes).toMatchObject({
      'microdollar.outcome': 'background',
    });
    expect(named(begun, 'chat gpt-5').attributes).not.toHaveProperty('gen_ai.usage.input_tokens');
    const spans = await spansOf(traceId, 'microdollar.gateway.background');
    const [row] = await gateway.rows<{ cost: string }>(
      `select cost::text from microdollar_usage where id = '${usageId}'`,
    );
    expect(named(spans, 'microdollar.gateway.background')).toMatchObject({
      parentSpanId: named(begun, 'POST /v1/responses').spanId,
      status: 0,
      attributes: {
        'microdollar.usage.id': usageId,
        'microdollar.cost_microdollars': Number(row?.cost),
        'microdollar.durable': 'database',
        'gen_ai.usage.input_tokens': 1_000,
        'gen_ai.usage.output_tokens': 5_000,
        'gen_ai.response.id': 'resp_1',
      },
    });
  });
});

describe('usage over HTTP', () => {
  it('is linked to from the statement that wrote it', async () => {
    const traceId = 'd'.repeat(32);
    const id = randomUUID();
    const answer = await fetch(`${gateway.url}/api/usage`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${ADMIN_KEY}`,
        'content-type': 'application/json',
        traceparent: `00-${traceId}-${CALLER.spanId}-01`,
      },
      body: JSON.stringify({
        events: [
          { id: id.toUpperCase(), kilo_user_id: user.id, cost: 7 },
          { kilo_user_id: user.id, cost: 8 },
        ],
      }),
    });
    expect(answer.status).toBe(200);
    const request = named(await spansOf(traceId, 'POST /api/usage'), 'POST /api/usage');
    const links = receiver.spans
      .filter((span) => span.name === 'microdollar.record')
      .flatMap((span) => span.links);
    expect(links.filter((link) => link.spanId === request.spanId)).toHaveLength(1);
  });
});

describe('what fails', () => {
  const trace = (digit: string) => digit.repeat(32);
  const sendIn = (traceId: string, body: object) =>
    send(body, { traceparent: `00-${traceId}-${CALLER.spanId}-01` });

  it("is told with the provider's status", async () => {
    const model = 'replay:text?status=429';
    await (await sendIn(trace('1'), { model })).text();
    const spans = await spansOf(trace('1'), 'POST /v1/chat/completions', `chat ${model}`);
    const call = spans.find((span) => span.kind === CLIENT);
    expect(call).toMatchObject({
      status: 2,
      events: ['exception'],
      attributes: { 'error.type': '429', 'microdollar.outcome': 'upstream_error' },
    });
    expect(call?.attributes).not.toHaveProperty('gen_ai.usage.input_tokens');
  });

  it("is told by the code of a provider's connection that broke", async () => {
    const model = 'replay:text?dieAfterBytes=50';
    await sendIn(trace('2'), { model })
      .then((answer) => answer.text())
      .catch(() => {});
    const spans = await spansOf(trace('2'), 'POST /v1/chat/completions', `chat ${model}`);
    expect(spans.find((span) => span.kind === CLIENT)).toMatchObject({
      status: 2,
      attributes: { 'microdollar.outcome': 'cut' },
    });
    expect(named(spans, 'POST /v1/chat/completions').attributes).toMatchObject({
      'microdollar.answered': false,
    });
  });

  it('is told by the reason of a refusal', async () => {
    const poor = await gateway.newUser({ usd: 0 });
    const answer = await send(
      { model: 'gpt-4o' },
      {
        authorization: `Bearer ${poor.key}`,
        traceparent: `00-${trace('3')}-${CALLER.spanId}-01`,
      },
    );
    expect(answer.status).toBe(402);
    const spans = await spansOf(trace('3'), 'POST /v1/chat/completions');
    expect(named(spans, 'microdollar.gateway.admit')).toMatchObject({
      status: 2,
      attributes: { 'error.type': expect.stringMatching(/balance|budget/) },
    });
    expect(spans.filter((span) => span.kind === CLIENT)).toEqual([]);
  });

  it('is not recorded where the caller did not sample', async () => {
    const headers = { traceparent: `00-${trace('4')}-${CALLER.spanId}-00` };
    await (await send({ model: 'gpt-4o' }, headers)).text();
    await spansOf(trace('1'), 'POST /v1/chat/completions');
    expect(receiver.spans.filter((span) => span.traceId === trace('4'))).toEqual([]);
  });
});

describe('the metrics', () => {
  it('that are sent are those of /metrics, with their labels and values', async () => {
    await (await send({ model: 'gpt-4o' })).text();
    await telemetry.flush();
    const scraped = await (await fetch(`${gateway.url}/metrics`)).text();
    const measured = new Set(
      [...scraped.matchAll(/^(\w+?)(?:_bucket|_sum|_count)?(?:\{.*\})? (?!NaN|Nan)\S+$/gm)].map(
        ([, name]) => name,
      ),
    );
    const types = [...scraped.matchAll(/^# TYPE (\S+) (\w+)$/gm)]
      .filter(([, name = '']) => name.startsWith('microdollar_') && measured.has(name))
      .map(([, name, type]) => `${name} ${type === 'counter' ? 'sum' : type}`);
    const sent = [...receiver.metrics.values()]
      .map(({ name, type }) => `${name} ${type}`)
      .filter((each) => each.startsWith('microdollar_'));
    expect(sent.sort()).toEqual(types.sort());
    const requests = receiver.metrics.get('microdollar_gateway_requests_total');
    expect(requests).toMatchObject({ type: 'sum', isMonotonic: true });
    const complete = requests?.points.find(({ attributes }) => attributes.outcome === 'complete');
    expect(complete?.attributes).toEqual({ api: 'openai_chat', outcome: 'complete' });
    expect(scraped).toContain(
      `microdollar_gateway_requests_total{api="openai_chat",outcome="complete"} ${complete?.value}`,
    );
    expect(receiver.metrics.get('microdollar_record_duration_seconds')?.unit).toBe('s');
    const [point] =
      receiver.metrics.get('microdollar_gateway_settle_duration_seconds')?.points ?? [];
    expect(point?.buckets?.reduce((sum, count) => sum + count, 0)).toBe(point?.value);
    expect(point?.buckets).toHaveLength((point?.bounds?.length ?? 0) + 1);
  });

  it('count the spans that were sent', async () => {
    // Those of the background may be on their way at any moment.
    await expect
      .poll(async () => {
        await telemetry.flush();
        const scraped = await (await fetch(`${gateway.url}/metrics`)).text();
        const [, sent = '0'] =
          /microdollar_telemetry_spans_total\{outcome="exported"\} (\d+)/.exec(scraped) ?? [];
        return Number(sent) - receiver.spans.length;
      })
      .toBe(0);
    expect(receiver.spans.length).toBeGreaterThan(0);
  });
});
