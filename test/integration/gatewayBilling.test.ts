import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { queryOnPool } from '../../src/db/query.js';
import { createPricer, priceUnpriced } from '../../src/gateway/prices/index.js';
import { WIRE_PATHS, type WireApi } from '../support/answers/index.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';

/**
 * What clients are billed where providers differ, through the whole gateway: one answer of each kind.
 * Every name, spelling and modifier is in test/unit/gateway.
 */
const TEXT = 'word '.repeat(400);
const ZERO = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
const dir = mkdtempSync(path.join(tmpdir(), 'billing-'));

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
});
afterAll(async () => {
  await gateway?.stop();
  rmSync(dir, { recursive: true });
});
afterEach(() => void vi.useRealTimers());

const chat = (model: string, usage: object, more: object = {}) => ({
  id: 'c',
  object: 'chat.completion',
  model,
  choices: [{ index: 0, message: { role: 'assistant', content: TEXT }, finish_reason: 'stop' }],
  usage,
  ...more,
});
const response = (usage: object, more: object = {}) => ({
  id: 'resp_1',
  object: 'response',
  status: 'completed',
  model: 'gpt-5-2025-08-07',
  output: [{ type: 'message', content: [{ type: 'output_text', text: 'ha' }] }],
  usage,
  ...more,
});

interface Case {
  api?: WireApi;
  request?: object;
  /** A whole answer, or the payloads of a stream; null breaks it off. */
  answer: object | readonly (object | string | null)[];
  row: object;
  /** Of the answer. */
  headers?: Record<string, string>;
}

const BEDROCK = {
  id: 'v',
  type: 'message',
  model: 'us.anthropic.claude-sonnet-4-5-20250929-v1:0',
  content: [],
  stop_reason: 'end_turn',
  usage: { input_tokens: 1_000_000, output_tokens: 100_000 },
};
const GEMINI = chat('gemini-2.5-flash', { prompt_tokens: 1_000_000, completion_tokens: 100_000 });

const CASES: Record<string, Case> = {
  'a cost under another name, at a tier': {
    answer: chat(
      'Qwen/Qwen3-32B',
      { prompt_tokens: 11_000, completion_tokens: 5_000, estimated_cost: 0.008775 },
      { service_tier: 'priority' },
    ),
    row: { cost: 8_775, reported_cost: '8775', price_source: 'upstream', estimated: null },
  },
  'a cost that is an object': {
    answer: chat('sonar', {
      prompt_tokens: 20,
      completion_tokens: 130,
      total_tokens: 150,
      search_context_size: 'low',
      cost: {
        input_tokens_cost: 2e-5,
        output_tokens_cost: 1.3e-4,
        request_cost: 0.005,
        total_cost: 0.00515,
      },
    }),
    row: { cost: 5_150 },
  },
  'an image tool beside the usage': {
    api: 'openai-responses',
    answer: response(
      { input_tokens: 1_820, output_tokens: 210, total_tokens: 2_030 },
      {
        output: [{ type: 'image_generation_call', id: 'ig', status: 'completed', result: 'AA' }],
        tools: [{ type: 'image_generation', model: 'gpt-image-1' }],
        tool_usage: { image_gen: { input_tokens: 50, output_tokens: 7_024, total_tokens: 7_074 } },
      },
    ),
    row: { cost: 285_585, input_tokens: 1_820, output_tokens: 210, estimated: null },
  },
  'a tool without a price': {
    answer: chat('gpt-4o', {
      prompt_tokens: 1_000,
      completion_tokens: 100,
      server_tool_use: { brew_coffee_requests: 2 },
    }),
    row: {
      cost: 3_500,
      estimated: 'incomplete',
      usage_details: { doubts: ['charge:brew_coffee'] },
    },
  },
  'cached tokens beyond the prompt': {
    answer: chat('claude-sonnet-4-5', {
      prompt_tokens: 86,
      completion_tokens: 14,
      total_tokens: 30_100,
      prompt_tokens_details: { cached_tokens: 30_000 },
    }),
    row: { input_tokens: 30_086, cache_hit_tokens: 30_000, output_tokens: 14, cost: 9_468 },
  },
  'cache reads at the top of the usage': {
    answer: chat('claude-sonnet-4-5', {
      prompt_tokens: 10_000,
      completion_tokens: 100,
      total_tokens: 10_100,
      cache_read_input_tokens: 9_000,
      cache_creation_input_tokens: 500,
    }),
    row: { input_tokens: 10_000, cache_hit_tokens: 9_000, cache_write_tokens: 500, cost: 7_575 },
  },
  'writes to an explicit cache': {
    answer: chat('qwen3.7-plus', {
      prompt_tokens: 2_000,
      completion_tokens: 10,
      total_tokens: 2_010,
      prompt_tokens_details: { cache_creation_input_tokens: 1_889, cached_tokens: 0 },
    }),
    row: { input_tokens: 2_000, cache_write_tokens: 1_889, output_tokens: 10, unpriced: true },
  },
  'thoughts in the total alone': {
    answer: chat('gemini-2.5-flash', {
      prompt_tokens: 20,
      completion_tokens: 198,
      total_tokens: 623,
    }),
    row: { input_tokens: 20, output_tokens: 603, cost: 1_514 },
  },
  'zeros after the usage': {
    request: { stream: true, stream_options: { include_usage: true } },
    answer: [
      { model: 'gpt-4o', choices: [{ index: 0, delta: { content: TEXT } }] },
      {
        model: 'gpt-4o',
        choices: [{ index: 0, delta: {}, finish_reason: 'stop' }],
        usage: { prompt_tokens: 10_000, completion_tokens: 1_000, total_tokens: 11_000 },
      },
      { model: 'gpt-4o', choices: [], usage: ZERO },
      '[DONE]',
    ],
    row: { input_tokens: 10_000, output_tokens: 1_000, cost: 35_000, estimated: null },
  },
  'a prompt that the end of a message forgets': {
    api: 'anthropic-messages',
    request: { stream: true },
    answer: [
      {
        type: 'message_start',
        message: { id: 'm', model: 'claude-sonnet-4-5', usage: { input_tokens: 15_000 } },
      },
      { type: 'content_block_delta', delta: { type: 'text_delta', text: 'Hello' } },
      {
        type: 'message_delta',
        delta: { stop_reason: 'end_turn' },
        usage: { input_tokens: 0, output_tokens: 400 },
      },
      { type: 'message_stop' },
    ],
    row: { input_tokens: 15_000, output_tokens: 400, cost: 51_000 },
  },
  'usage of zeros beside text': {
    request: { messages: [{ role: 'user', content: 'x'.repeat(4_000) }] },
    answer: chat('gpt-4o', ZERO),
    row: { output_tokens: 500, input_tokens: 1_001, cost: 7_503, estimated: 'missing_usage' },
  },
  'one of two choices ended, then the connection': {
    request: { stream: true, n: 2 },
    answer: [
      {
        model: 'gpt-4o',
        choices: [{ index: 0, delta: { content: 'a' }, finish_reason: 'stop' }],
        usage: { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 },
      },
      { model: 'gpt-4o', choices: [{ index: 1, delta: { content: TEXT } }] },
      null,
    ],
    row: { input_tokens: 100, output_tokens: 501, cost: 5_260, estimated: 'partial_usage' },
  },
  'half the price at the flex tier': {
    api: 'openai-responses',
    answer: response(
      { input_tokens: 1_000_000, output_tokens: 1_000_000 },
      { model: 'gpt-5-nano-2025-08-07', service_tier: 'flex' },
    ),
    row: { cost: 225_000, estimated: null },
  },
  'more at the priority tier': {
    answer: chat(
      'gpt-4o-mini-2024-07-18',
      { prompt_tokens: 900_000, completion_tokens: 200_000 },
      { service_tier: 'priority' },
    ),
    row: { cost: 425_000, estimated: null },
  },
  'a tier that nobody knows': {
    answer: chat(
      'gpt-4o',
      { prompt_tokens: 1_000, completion_tokens: 100 },
      { service_tier: 'scale' },
    ),
    row: { cost: 3_500, estimated: 'incomplete' },
  },
  'a tier that only a header names': {
    answer: GEMINI,
    headers: { 'x-gemini-service-tier': 'flex' },
    row: { cost: 275_000, estimated: null },
  },
  'a tier that only a header names, in capitals': {
    answer: GEMINI,
    headers: { 'X-Gemini-Service-Tier': 'STANDARD' },
    row: { cost: 550_000, estimated: null },
  },
  'a tier that the header of a stream names': {
    request: { stream: true },
    answer: [
      { model: 'gemini-2.5-flash', choices: [{ index: 0, delta: { content: TEXT } }] },
      {
        model: 'gemini-2.5-flash',
        choices: [],
        usage: { prompt_tokens: 1_000_000, completion_tokens: 100_000 },
      },
      '[DONE]',
    ],
    headers: { 'x-gemini-service-tier': 'flex' },
    row: { cost: 275_000, estimated: null },
  },
  'a tier that nobody knows, in a header': {
    answer: GEMINI,
    headers: { 'x-gemini-service-tier': 'express' },
    row: {
      cost: 550_000,
      estimated: 'incomplete',
      usage_details: { doubts: ['service_tier:express'] },
    },
  },
  'a tier of Bedrock in its header': {
    api: 'anthropic-messages',
    answer: BEDROCK,
    headers: { 'x-amzn-bedrock-service-tier': 'flex' },
    row: { cost: 2_475_000, unpriced: null, estimated: null },
  },
  'a tier in the answer before one in a header': {
    answer: { ...GEMINI, service_tier: 'standard' },
    headers: { 'x-gemini-service-tier': 'flex' },
    row: { cost: 550_000, estimated: null },
  },
  'a name of Bedrock behind any host': {
    api: 'anthropic-messages',
    answer: BEDROCK,
    row: { cost: 4_950_000, unpriced: null },
  },
};

async function ask(name: string, { api = 'openai-chat', request = {} }: Case) {
  const answer = await fetch(`${gateway.url}${WIRE_PATHS[api]}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${user.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: `script:${name}`, max_tokens: 9_999, ...request }),
  });
  await answer.text().catch(() => {});
  return await gateway.usage(answer.headers.get('x-microdollar-usage-id') ?? '');
}

function script(name: string, { answer, headers = {} }: Case): void {
  gateway.upstream.script(name, async (reply: ServerResponse) => {
    if (!Array.isArray(answer)) {
      reply.writeHead(200, { 'content-type': 'application/json', ...headers });
      reply.end(JSON.stringify(answer));
      return;
    }
    reply.writeHead(200, { 'content-type': 'text/event-stream', ...headers });
    for (const payload of answer) {
      if (payload === null) return void setImmediate(() => reply.destroy());
      const data = typeof payload === 'string' ? payload : JSON.stringify(payload);
      await new Promise((sent) => reply.write(`data: ${data}\n\n`, sent));
    }
    reply.end();
  });
}

describe('what is billed', () => {
  it.each(Object.entries(CASES))('%s', async (name, each) => {
    script(name, each);
    expect(await ask(name, each)).toMatchObject(each.row);
  });
});

describe('usage that had no price', () => {
  it('costs later what it would have cost at once: at its tier', async () => {
    const usage = { prompt_tokens: 1_000, completion_tokens: 1_000, total_tokens: 2_000 };
    const each = { answer: chat('house-flex', usage, { service_tier: 'flex' }), row: {} };
    script('late tier', each);
    const row = await ask('late tier', each);
    expect(row).toMatchObject({ cost: 0, unpriced: true });
    const file = path.join(dir, 'prices.json');
    const price = (usd: string) => ({ input_mtok: usd, output_mtok: usd });
    writeFileSync(
      file,
      JSON.stringify({
        prices: [
          { model: 'house-flex', price: price('10') },
          { model: 'house-flex', service_tier: 'flex', price: price('5') },
        ],
      }),
    );
    const pricer = createPricer({ ownPricesFile: file });
    const query = queryOnPool(gateway.database.pool, false);
    await priceUnpriced({ query, ledger: gateway.ledger, pricer });
    pricer.close();
    const [late] = await gateway.rows(
      `select u.cost::int from microdollar_usage as u
       join microdollar_usage_metadata as m on m.id = u.id where m.adjusts_usage_id = $1`,
      [row.id],
    );
    expect(late).toEqual({ cost: 10_000 });
  });
});

describe('a clock that is set back while a request is under way', () => {
  it('costs nobody anything: the row is of now', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 10 * 60_000 });
    gateway.upstream.script('clock', (reply) => {
      vi.useRealTimers();
      reply.writeHead(200, { 'content-type': 'application/json' });
      reply.end(JSON.stringify(chat('gpt-4o', { prompt_tokens: 1_000, completion_tokens: 100 })));
    });
    const row = await ask('clock', { answer: {}, row: {} });
    expect(row).toMatchObject({ cost: 3_500 });
    expect(row.usage_created_at.getTime()).toBeLessThanOrEqual(Date.now());
    expect(row.usage_details.stated_created_at).toMatch(/^\d{4}-/);
  });
});
