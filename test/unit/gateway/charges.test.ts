import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createPricer } from '../../../src/gateway/prices/index.js';
import { chatAnswer, meterCall } from './meterCall.js';

/** What a provider charges for beside the tokens of its answer: priced, or said to be missing. */
const dir = mkdtempSync(path.join(tmpdir(), 'charges-'));
afterAll(() => rmSync(dir, { recursive: true }));

const GPT_5 = { id: 'r', object: 'response', status: 'completed', model: 'gpt-5-2025-08-07' };
/** 1,820 at 1.25 and 210 at 10 USD a million. */
const USAGE = { input_tokens: 1_820, output_tokens: 210, total_tokens: 2_030 };
const TOKENS_COST = 4_375;

function response(output: object[], more: object = {}) {
  return meterCall({
    format: 'openai-responses',
    request: { model: 'gpt-5', input: 'do' },
    body: { ...GPT_5, output, usage: USAGE, ...more },
  });
}

const IMAGE_TOKENS = {
  input_tokens: 50,
  output_tokens: 7_024,
  total_tokens: 7_074,
  input_tokens_details: { text_tokens: 50, image_tokens: 0 },
  output_tokens_details: { image_tokens: 7_024, text_tokens: 0 },
};
const IMAGE = { type: 'image_generation_call', id: 'ig', status: 'completed', result: 'AAAA' };

describe('images that a tool drew', () => {
  const tool = (model?: string) => ({ tools: [{ type: 'image_generation', model }] });
  const used = { tool_usage: { image_gen: IMAGE_TOKENS } };

  it.each<[string, object, number]>([
    // 50 at 5, 7,024 at 40 USD a million.
    ['gpt-image-1', tool('gpt-image-1'), 281_210],
    ['gpt-image-1.5', tool('gpt-image-1.5'), 250 + 224_768],
    ['no model', {}, 281_210],
  ])('are paid by the tokens of %s', (_name, more, cost) => {
    expect(response([IMAGE], { ...used, ...more })).toMatchObject({
      cost: TOKENS_COST + cost,
      input_tokens: 1_820,
      output_tokens: 210,
      metadata: { estimated: null, usage_details: null },
    });
  });

  // https://github.com/Wei-Shaw/sub2api/issues/1999
  it('are images also where the parts of their tokens are not told', () => {
    const tool_usage = { image_gen: { input_tokens: 50, output_tokens: 7_024 } };
    expect(response([IMAGE], { tool_usage, ...tool('gpt-image-1.5') })).toMatchObject({
      cost: TOKENS_COST + 250 + 224_768,
    });
  });

  it('are none where the tool wrote text alone', () => {
    const output_tokens_details = { image_tokens: 0, text_tokens: 100 };
    const image_gen = { input_tokens: 50, output_tokens: 100, output_tokens_details };
    expect(response([], { tool_usage: { image_gen }, ...tool('gpt-image-1.5') })).toMatchObject({
      cost: TOKENS_COST + 250 + 1_000,
    });
  });

  it.each<[string, object]>([
    ['whose tokens are not reported', {}],
    ['whose tokens are zero', { tool_usage: { image_gen: { input_tokens: 0, output_tokens: 0 } } }],
    ['by a model without a price', { ...used, ...tool('mystery-image') }],
  ])('%s leave the row incomplete', (_name, more) => {
    expect(response([IMAGE], more)).toMatchObject({
      cost: TOKENS_COST,
      metadata: {
        estimated: 'incomplete',
        usage_details: { doubts: ['charge:image_generation'] },
      },
    });
  });

  it('are paid also where the image is larger than what is kept of an answer', () => {
    const image = { ...IMAGE, result: 'A'.repeat(2_000_000) };
    const event = response([image], { ...tool('gpt-image-1.5'), ...used, truncation: 'disabled' });
    expect(event).toMatchObject({ cost: TOKENS_COST + 250 + 224_768, input_tokens: 1_820 });
  });
});

describe('sessions of a code interpreter', () => {
  const call = (container?: string) => ({
    type: 'code_interpreter_call',
    id: `ci${Math.random()}`,
    ...(container && { container_id: container }),
  });
  const sized = (memory_limit: string) => ({
    tools: [{ type: 'code_interpreter', container: { type: 'auto', memory_limit } }],
  });

  it.each<[string, object[], object, number]>([
    ['one', [call('c1')], {}, 30_000],
    ['one, called often', [call('c1'), call('c1'), call('c1')], {}, 30_000],
    ['several', [call('c1'), call('c2')], {}, 60_000],
    ['one without a name', [call(), call()], {}, 30_000],
    ['one of 4 GB', [call('c1')], sized('4g'), 120_000],
    ['one of 64 GB', [call('c1')], sized('64g'), 1_920_000],
    [
      'a hosted shell',
      [{ type: 'shell_call', environment: { type: 'container_reference', container_id: 'c' } }],
      {},
      30_000,
    ],
    ['a local shell', [{ type: 'shell_call', environment: { type: 'local' } }], {}, 0],
  ])('%s', (_name, output, more, cost) => {
    expect(response(output, more)).toMatchObject({
      cost: TOKENS_COST + cost,
      metadata: { estimated: null },
    });
  });

  it('are known also of a stream whose end never comes', () => {
    const events = [
      { type: 'response.created', response: { id: 'r', model: 'gpt-5', status: 'in_progress' } },
      { type: 'response.output_item.done', item: { ...call('c1') } },
      { type: 'response.output_item.done', item: { type: 'web_search_call', id: 'w' } },
    ];
    const request = { model: 'gpt-5', input: 'x'.repeat(4_000), reasoning: { effort: 'none' } };
    const end = { isBroken: true };
    const event = meterCall({ format: 'openai-responses', request, events, end });
    expect(event.cost).toBeGreaterThanOrEqual(40_000);
  });
});

describe('searches', () => {
  const search = { type: 'web_search_call', action: { type: 'search' } };

  it.each<[string, object[], object, number]>([
    ['of the web, by the call', [search, search], {}, 20_000],
    ['of the web, by the number', [], { tool_usage: { web_search: { num_requests: 3 } } }, 30_000],
    ['told both ways', [search], { tool_usage: { web_search: { num_requests: 1 } } }, 10_000],
    ['pages that were opened', [{ ...search, action: { type: 'open_page' } }], {}, 0],
    ['of files', [{ type: 'file_search_call' }], {}, 2_500],
  ])('%s', (_name, output, more, cost) => {
    expect(response(output, more)).toMatchObject({
      cost: TOKENS_COST + cost,
      metadata: { estimated: null },
    });
  });

  it.each<[string, object, number]>([
    ['a model that always searches', chatAnswer({}, { model: 'gpt-4o-search-preview' }), 25_000],
    ['its small sister', chatAnswer({}, { model: 'gpt-4o-mini-search-preview' }), 25_000],
  ])('of %s', (_name, answer, cost) => {
    const usage = { prompt_tokens: 0, completion_tokens: 1_000_000, total_tokens: 1_000_000 };
    const event = meterCall({ body: { ...answer, usage } });
    const tokens = event.model === 'gpt-4o-search-preview' ? 10_000_000 : 600_000;
    expect(event.cost).toBeGreaterThanOrEqual(tokens + cost);
    expect(event.cost).toBeLessThan(tokens + cost + 100);
  });

  it.each<[string, object, number]>([
    ['its own', { server_tool_use: { web_search_requests: 2, web_fetch_requests: 9 } }, 20_000],
    ['none', { server_tool_use: { web_search_requests: 0 } }, 0],
  ])('of Anthropic: %s', (_name, more, cost) => {
    const usage = { input_tokens: 1_000, output_tokens: 0, ...more };
    const body = { type: 'message', id: 'm', model: 'claude-sonnet-4-5', content: [], usage };
    expect(meterCall({ format: 'anthropic-messages', body })).toMatchObject({
      cost: 3_000 + cost,
      metadata: { estimated: null },
    });
  });
});

describe('audio', () => {
  it('is paid as audio also where the list has no price of it', () => {
    const usage = {
      prompt_tokens: 1_000,
      completion_tokens: 1_000,
      total_tokens: 2_000,
      prompt_tokens_details: { audio_tokens: 400 },
      completion_tokens_details: { audio_tokens: 900 },
    };
    const body = chatAnswer(usage, { model: 'gpt-4o-audio-preview' });
    // 600 x 2.5 + 400 x 40 + 100 x 10 + 900 x 80 microdollars.
    expect(meterCall({ body })).toMatchObject({ cost: 1_500 + 16_000 + 1_000 + 72_000 });
  });
});

describe('tools of other providers', () => {
  const chat = (model: string, host: string, usage: object, more: object = {}) =>
    meterCall({
      host,
      body: chatAnswer(
        { prompt_tokens: 1_000, completion_tokens: 10, total_tokens: 1_010, ...usage },
        { model, ...more },
      ),
    });

  it.each<[string, object, number]>([
    ['searches', { server_side_tool_usage_details: { web_search_calls: 3 } }, 15_000],
    ['its own names', { server_side_tool_usage: { SERVER_SIDE_TOOL_X_SEARCH: 2 } }, 10_000],
    ['code', { server_side_tool_usage_details: { code_interpreter_calls: 1 } }, 5_000],
    ['sources', { num_sources_used: 4 }, 100_000],
    ['free tools', { server_side_tool_usage_details: { mcp_calls: 7, view_image_calls: 2 } }, 0],
  ])('xAI: %s', (_name, usage, cost) => {
    // 1,000 at 1.25 and 10 at 2.50 USD a million.
    expect(chat('grok-4.3', 'api.x.ai', usage)).toMatchObject({
      cost: 1_275 + cost,
      metadata: { estimated: null },
    });
  });

  it('Perplexity: searches, citations and reasoning of deep research', () => {
    const usage = { citation_tokens: 20_028, num_search_queries: 18, reasoning_tokens: 73_997 };
    const event = chat('sonar-deep-research', 'api.perplexity.ai', usage);
    // 1,000 x 2 + 10 x 8 + 73,997 x 3 + 20,028 x 2 microdollars, 18 x 5,000.
    expect(event).toMatchObject({
      cost: 2_000 + 80 + 221_991 + 40_056 + 90_000,
      output_tokens: 74_007,
      metadata: { estimated: null },
    });
  });

  it.each([
    ['low', 5_000],
    ['medium', 8_000],
    ['high', 12_000],
  ])('Perplexity: the fee for a request with %s context', (size, fee) => {
    const event = chat('sonar', 'api.perplexity.ai', {
      search_context_size: size,
      num_search_queries: 2,
      citation_tokens: 300,
    });
    expect(event).toMatchObject({ cost: 1_010 + fee, metadata: { estimated: null } });
  });

  it('Anthropic: code that the usage tells of has no price', () => {
    const usage = {
      input_tokens: 1,
      output_tokens: 1,
      server_tool_use: { code_execution_requests: 1 },
    };
    const body = { type: 'message', id: 'm', model: 'claude-sonnet-4-5', content: [], usage };
    expect(meterCall({ format: 'anthropic-messages', body })).toMatchObject({
      metadata: { usage_details: { doubts: ['charge:code_executions'] } },
    });
  });

  it.each<[string, object, string]>([
    ['Mistral', { connectors: { web_search: 1 } }, 'charge:web_searches'],
    ['DashScope', { plugins: { search: { count: 2 } } }, 'charge:web_searches'],
    [
      'one that nobody knows',
      { server_tool_use: { brew_coffee_requests: 1 } },
      'charge:brew_coffee',
    ],
  ])('%s: without a price the row is incomplete', (_name, usage, doubt) => {
    expect(chat('mistral-large-latest', 'api.mistral.ai', usage)).toMatchObject({
      metadata: { estimated: 'incomplete', usage_details: { doubts: [doubt] } },
    });
  });

  it('Groq: tools that a compound model ran', () => {
    const tools = [{ type: 'search' }, { type: 'search' }, { type: 'visit_website' }];
    const message = { role: 'assistant', content: 'Hi.', executed_tools: tools };
    const event = chat('llama-3.3-70b-versatile', 'api.groq.com', {}, { choices: [{ message }] });
    expect(event.metadata).toMatchObject({
      estimated: 'incomplete',
      usage_details: { doubts: ['charge:web_searches'] },
    });
  });

  it('a reported cost covers images that it does not name', () => {
    const event = response([IMAGE], { usage: { ...USAGE, cost: 0.25 } });
    expect(event).toMatchObject({ cost: 250_000, metadata: { estimated: null } });
  });

  it('a reported cost covers all of them', () => {
    const usage = { cost_in_usd_ticks: 37_756_000, num_sources_used: 4 };
    expect(chat('grok-4.3', 'api.x.ai', usage)).toMatchObject({
      cost: 3_776,
      metadata: { estimated: null },
    });
  });
});

describe("the operator's file", () => {
  it('prices any charge by its name', () => {
    const file = path.join(dir, 'prices.json');
    const price = {
      input_mtok: '1',
      output_mtok: '1',
      brew_coffee_kcount: '250',
      code_sessions_kcount: '40',
    };
    writeFileSync(file, JSON.stringify({ prices: [{ model: 'house', price }] }));
    const pricer = createPricer({ ownPricesFile: file });
    const usage = { prompt_tokens: 1_000, completion_tokens: 0 };
    const coffee = {
      ...usage,
      server_tool_use: { brew_coffee_requests: 3, web_search_requests: 1 },
    };
    const body = chatAnswer(coffee, { model: 'house', choices: [] });
    // 1,000 of tokens, 3 x 250,000, and a search at the price of the maker.
    expect(meterCall({ pricer, body })).toMatchObject({
      cost: 1_000 + 750_000 + 10_000,
      metadata: { price_source: 'own', estimated: null },
    });
    pricer.close();
  });
});
