/** A defect of ours in the reading of a part of an answer, planted: the row says that its usage is not sure. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { HostedTools } from '../../src/gateway/processUsage/hostedTools.js';
import { OpenAiChatReader } from '../../src/gateway/processUsage/openaiChat.js';
import { withUsage } from '../../src/gateway/sdk/index.js';
import { RecordingLedger } from '../unit/gateway/recordingLedger.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

const TEXT = 'planted defect';
const fail = () => {
  throw new TypeError(TEXT);
};

let gateway: TestGateway;
let user: TestUser;
let lines: number;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
});
afterAll(() => gateway?.stop());
beforeEach(() => {
  lines = gateway.logLines.length;
});
afterEach(() => void vi.restoreAllMocks());

const told = () => gateway.logLines.slice(lines).filter((line) => line.includes(TEXT));

const ask = (method: string, path: string, body?: object) =>
  fetch(gateway.url + path, {
    method,
    headers: { authorization: `Bearer ${user.key}`, 'content-type': 'application/json' },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });

async function expectDoubted(answer: Response): Promise<void> {
  expect(answer.status).toBe(200);
  await answer.text();
  const row = await gateway.usage(answer.headers.get('x-microdollar-usage-id') ?? '');
  expect(row).toMatchObject({ estimated: 'incomplete', usage_details: { doubts: ['unread'] } });
  expect(told()).toHaveLength(1);
}

const usage = { input_tokens: 1_000, output_tokens: 10, total_tokens: 1_010 };
const response = { id: 'resp_1', object: 'response', model: 'gpt-5', error: null, output: [] };
const running = { ...response, background: true, status: 'queued', usage: null };
const completed = { ...response, status: 'completed', tools: [{ type: 'web_search' }], usage };

it('where the last of running totals was not read', async () => {
  const chunk = (completion_tokens: number) => ({
    id: 'c',
    object: 'chat.completion.chunk',
    model: 'gpt-5',
    choices: [{ index: 0, delta: { content: 'some text' }, finish_reason: null }],
    usage: { prompt_tokens: 1_000, completion_tokens },
  });
  gateway.upstream.script('totals', (reply) => {
    reply.writeHead(200, { 'content-type': 'text/event-stream' });
    const events = [chunk(10), chunk(5_000)].map((each) => `data: ${JSON.stringify(each)}\n\n`);
    reply.end(`${events.join('')}data: [DONE]\n\n`);
  });
  const read = OpenAiChatReader.prototype.event;
  vi.spyOn(OpenAiChatReader.prototype, 'event').mockImplementation(function (
    this: OpenAiChatReader,
    payload,
    text,
  ) {
    if (text.includes('5000')) fail();
    read.call(this, payload, text);
  });
  const options = { stream: true, stream_options: { include_usage: true }, messages: [] };
  await expectDoubted(
    await ask('POST', '/v1/chat/completions', { model: 'script:totals', ...options }),
  );
});

it('where the tools of a response were not counted', async () => {
  gateway.upstream.script('tools', (reply) => {
    reply.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(completed));
  });
  vi.spyOn(HostedTools.prototype, 'count').mockImplementation(fail);
  await expectDoubted(await ask('POST', '/v1/responses', { model: 'script:tools', input: 'hi' }));
});

describe('a response in the background', () => {
  it.each(['its client', 'the gateway'])('of which %s is the first to see the end', async (who) => {
    let now: object = running;
    const json = { 'content-type': 'application/json' };
    gateway.upstream.scriptPath(/^POST \/v1\/responses$/, (reply) => {
      reply.writeHead(200, json).end(JSON.stringify(running));
    });
    gateway.upstream.scriptPath(/^GET \/v1\/responses\/[^/]+$/, (reply) => {
      reply.writeHead(200, json).end(JSON.stringify(now));
    });
    const input = { model: 'gpt-5', input: 'hi', background: true };
    const answer = await ask('POST', '/v1/responses', input);
    vi.spyOn(HostedTools.prototype, 'count').mockImplementation(fail);
    now = completed;
    if (who === 'its client') await (await ask('GET', '/v1/responses/resp_1')).text();
    await expectDoubted(answer);
  });
});

it.each([
  ['an error as another realm has it', () => Object.assign(Object.create(null), { message: TEXT })],
  ['no error', () => ({ code: 7 })],
])('SDK: the call is recorded where what is thrown is %s', async (_, make) => {
  vi.spyOn(OpenAiChatReader.prototype, 'body').mockImplementation(() => {
    throw make();
  });
  const ledger = new RecordingLedger();
  const answer = { object: 'chat.completion', id: 'x', model: 'gpt-5', choices: [] };
  const call = withUsage(ledger, { kilo_user_id: user.id }, async () => answer);
  expect(await call).toBe(answer);
  expect(ledger.last).toMatchObject({ metadata: { estimated: expect.any(String) } });
});
