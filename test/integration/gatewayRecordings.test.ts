import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRecordedUsage } from '../support/recordedUsage.js';
import { listRecordings, type Recording, WIRE_PATHS } from '../support/wireRecordings.js';
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

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

const recordings = listRecordings().map(
  (recording) =>
    [
      `${recording.api} ${recording.name}${recording.streamed ? ' streamed' : ''}`,
      recording,
    ] as const,
);

const modelOf = ({ name, streamed }: Recording, tag: string) =>
  `replay:${name}?chunkBytes=900&tag=${tag}-${streamed}`;

async function usageOf(model: string): Promise<UsageRow> {
  for (;;) {
    const [row] = await gateway.rows<{ id: string }>(
      'select id from microdollar_usage where requested_model = $1',
      [model],
    );
    if (row !== undefined) return gateway.usage(row.id);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function expectSameThrough(
  client: (target: Target, call: Call) => Promise<Seen>,
  recording: Recording,
  call: Omit<Call, 'api' | 'streamed'>,
): Promise<Seen> {
  const whole = { ...call, api: recording.api, streamed: recording.streamed };
  const direct = await client({ url: gateway.upstream.url, key: 'direct' }, whole);
  const through = await client({ url: gateway.url, key: user.key }, whole);
  expect(through).toEqual(direct);
  return through;
}

function expectRecorded(row: UsageRow, recording: Recording): void {
  const recorded = readRecordedUsage(recording);
  expect(row).toMatchObject({
    kilo_user_id: user.id,
    input_tokens: recorded.inputTokens,
    output_tokens: recorded.outputTokens,
    cache_write_tokens: recorded.cacheWriteTokens,
    cache_hit_tokens: recorded.cacheHitTokens,
    model: recorded.model,
    streamed: recording.streamed,
    status_code: 200,
    cancelled: false,
    estimated: null,
    has_error: false,
  });
  if (recorded.reasoningTokens !== null) {
    expect(row.reasoning_tokens).toBe(recorded.reasoningTokens);
  }
  // A refusal says nothing, so it has no first token.
  if (row.finish_reason === 'refusal' && recording.streamed) expect(row.latency).toBeNull();
  else expect(row.latency).toBeGreaterThan(0);
  if (row.unpriced) expect(row).toMatchObject({ cost: 0, price_source: null });
  else expect(row.price_source).toBe('genai-prices');
}

describe.each(recordings)('%s', (_name, recording) => {
  it('reaches a plain client byte for byte', async () => {
    const model = modelOf(recording, 'bytes');
    const asks = recording.api === 'openai-chat' && recording.streamed;
    const body = JSON.stringify({
      model,
      stream: recording.streamed,
      ...(asks ? { stream_options: { include_usage: true } } : {}),
    });
    const fetchBytes = async ({ url, key }: Target) => {
      const response = await fetch(url + WIRE_PATHS[recording.api], {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body,
      });
      return Buffer.from(await response.arrayBuffer());
    };
    const direct = await fetchBytes({ url: gateway.upstream.url, key: 'direct' });
    const through = await fetchBytes({ url: gateway.url, key: user.key });
    expect(through.equals(direct)).toBe(true);
    expectRecorded(await usageOf(model), recording);
  });

  it('is the same to the official client', async () => {
    const model = modelOf(recording, 'official');
    await expectSameThrough(callOfficialClient, recording, { model, includeUsage: true });
    expectRecorded(await usageOf(model), recording);
  });

  it('is the same to the AI SDK', async () => {
    const model = modelOf(recording, 'ai');
    await expectSameThrough(callAiSdk, recording, { model, withTools: true });
    const row = await usageOf(model);
    expectRecorded(row, recording);
    expect(row.has_tools).toBe(true);
  });
});
