/** A defect of ours in the reading of an answer, planted: the client has the whole answer, and the usage is recorded. */
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { AnthropicMessagesReader } from '../../src/gateway/processUsage/anthropicMessages.js';
import { OpenAiChatReader } from '../../src/gateway/processUsage/openaiChat.js';
import { OpenAiResponsesReader } from '../../src/gateway/processUsage/openaiResponses.js';
import { meteredFetch } from '../../src/gateway/sdk/index.js';
import { findAnswer, frameAnswer, WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import { exchangeBytes, postBytes } from '../support/rawHttp.js';
import { RecordingLedger } from '../unit/gateway/recordingLedger.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

const READERS = [OpenAiChatReader, OpenAiResponsesReader, AnthropicMessagesReader];
const DEFECT = 'planted defect';

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());

beforeEach(() => {
  const fail = () => {
    throw new TypeError(DEFECT);
  };
  for (const { prototype } of READERS) {
    vi.spyOn(prototype, 'event').mockImplementation(fail);
    vi.spyOn(prototype, 'body').mockImplementation(fail);
  }
});
afterEach(() => void vi.restoreAllMocks());

const APIS = ['openai-chat', 'openai-responses', 'anthropic-messages'] as const;
const WAYS = APIS.flatMap((api) => [true, false].map((streamed) => ({ api, streamed })));

const answerOf = (api: WireApi, streamed: boolean) =>
  frameAnswer(findAnswer(api, 'text', streamed));

it.each(WAYS)(
  'gateway, $api, streamed $streamed: an estimate, and a line in the log',
  async (way) => {
    const { api, streamed } = way;
    // Whose client asks for usage, so that no chunk of it is left out.
    const body = {
      model: 'replay:text',
      stream: streamed,
      stream_options: { include_usage: true },
    };
    const headers = { authorization: `Bearer ${user.key}`, connection: 'close' };
    const request = postBytes(WIRE_PATHS[api], headers, JSON.stringify(body));
    const lines = gateway.logLines.length;
    const { head, body: bytes } = await exchangeBytes(gateway.url, request);
    expect(head).toMatch(/^HTTP\/1.1 200 /);
    expect(String(bytes)).toBe(String(answerOf(api, streamed)));
    const id = /x-microdollar-usage-id: (\S+)/.exec(head)?.[1] ?? '';
    expect(await gateway.usage(id)).toMatchObject({ estimated: expect.any(String) });
    const told = gateway.logLines.slice(lines).filter((line) => line.includes(DEFECT));
    expect(told.map((line) => JSON.parse(line))).toEqual([
      expect.objectContaining({ usageId: id, msg: expect.stringContaining('please report it') }),
    ]);
  },
);

it.each(WAYS)(
  'SDK, $api, streamed $streamed: an estimate, and a warning',
  async ({ api, streamed }) => {
    const ledger = new RecordingLedger();
    const warned = once(process, 'warning');
    const fetch = meteredFetch(ledger, { kilo_user_id: user.id });
    const answer = await fetch(`${gateway.upstream.url}${WIRE_PATHS[api]}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'replay:text',
        stream: streamed,
        stream_options: { include_usage: true },
      }),
    });
    expect(await answer.text()).toBe(String(answerOf(api, streamed)));
    expect(ledger.last).toMatchObject({ metadata: { estimated: expect.any(String) } });
    expect(String(await warned)).toContain(DEFECT);
  },
);
