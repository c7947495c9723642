import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Answer, WIRE_PATHS } from '../support/answers/index.js';
import {
  type Call,
  callAiSdk,
  callOfficialClient,
  type Seen,
  type Target,
} from './gatewayClients.js';
import {
  startTestGateway,
  type TestGateway,
  type TestUser,
  type UsageRow,
} from './gatewayHarness.js';

/** Each answer through the gateway: the same to every client, and recorded with its usage. */
export function describeThroughGateway(answers: readonly Answer[]): void {
  let gateway: TestGateway;
  let user: TestUser;

  beforeAll(async () => {
    gateway = await startTestGateway({ upstream: { answers } });
    user = await gateway.newUser();
  });
  afterAll(() => gateway?.stop());

  const direct = (): Target => ({ url: gateway.upstream.url, key: 'direct' });
  const through = (): Target => ({ url: gateway.url, key: user.key });

  async function expectRecorded(model: string, answer: Answer): Promise<UsageRow> {
    const row = await gateway.usageOf(model);
    expect(row.kilo_user_id).toBe(user.id);
    expectUsageOf(row, answer);
    return row;
  }

  async function expectSame(
    client: (target: Target, call: Call) => Promise<Seen>,
    call: Call,
  ): Promise<Seen> {
    const seen = await client(direct(), call);
    expect(await client(through(), call)).toEqual(seen);
    return seen;
  }

  const named = answers.map(
    (answer) =>
      [`${answer.api} ${answer.name}${answer.streamed ? ' streamed' : ''}`, answer] as const,
  );
  describe.each(named)('%s', (_name, answer) => {
    const { api, name, streamed } = answer;
    const modelOf = (tag: string) => `replay:${name}?chunkBytes=900&tag=${tag}-${api}-${streamed}`;

    it('reaches a plain client byte for byte', async () => {
      const model = modelOf('bytes');
      const asks = api === 'openai-chat' && streamed;
      const body = JSON.stringify({
        model,
        stream: streamed,
        ...(asks ? { stream_options: { include_usage: true } } : {}),
      });
      const fetchBytes = async ({ url, key }: Target) => {
        const response = await fetch(url + WIRE_PATHS[api], {
          method: 'POST',
          headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
          body,
        });
        return Buffer.from(await response.arrayBuffer());
      };
      expect((await fetchBytes(through())).equals(await fetchBytes(direct()))).toBe(true);
      await expectRecorded(model, answer);
    });

    it('is the same to the official client', async () => {
      const model = modelOf('official');
      const call: Call = { api, streamed, model, includeUsage: true };
      expect((await expectSame(callOfficialClient, call)).error).toBeNull();
      await expectRecorded(model, answer);
    });

    // Not every shape is one that it knows: then its error is the same.
    it('is the same to the AI SDK', async () => {
      const model = modelOf('ai');
      await expectSame(callAiSdk, { api, streamed, model, withTools: true });
      const row = await expectRecorded(model, answer);
      expect(row.has_tools).toBe(true);
    });
  });
}

function expectUsageOf(row: UsageRow, { streamed, usage }: Answer): void {
  expect(row).toMatchObject({
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    cache_write_tokens: usage.cacheWriteTokens,
    cache_hit_tokens: usage.cacheHitTokens,
    reasoning_tokens: usage.reasoningTokens,
    model: usage.model,
    streamed,
    status_code: 200,
    cancelled: false,
    estimated: null,
    has_error: false,
  });
  // A refusal says nothing, so it has no first token.
  if (row.finish_reason === 'refusal' && streamed) expect(row.latency).toBeNull();
  else expect(row.latency).toBeGreaterThan(0);
  if (row.unpriced) expect(row).toMatchObject({ cost: 0, price_source: null });
  else expect(row.price_source).toBe('genai-prices');
}
