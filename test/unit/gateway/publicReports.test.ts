import { describe, expect, it } from 'vitest';
import { expectedAmount } from '../../../src/gateway/holds/expectedAmount.js';
import { toBilled } from '../../../src/gateway/prices/billedUsage.js';
import { roundToMicrodollars, ZERO } from '../../../src/gateway/prices/decimal.js';
import {
  createPricer,
  priceFields,
  priceIntent,
  repriceUnpriced,
} from '../../../src/gateway/prices/index.js';
import { findListPrice } from '../../../src/gateway/prices/listPrices.js';
import { priceUsage } from '../../../src/gateway/prices/modelPrice.js';
import { createSideReader, prepareSideRequest } from '../../../src/gateway/processUsage/index.js';
import { type Call, chatAnswer, meterCall, NOW, readAnswer } from './meterCall.js';

/**
 * Shapes that public bug reports of other gateways and ledgers describe, in bodies of our own. One
 * test a kind of shape: where it stands, how it is named, what it is part of.
 */
const COUNTS = { prompt_tokens: 1_000, completion_tokens: 100, total_tokens: 1_100 };
const WITHOUT_USAGE = (({ usage: _, ...rest }) => rest)(
  chatAnswer({}) as Record<string, unknown> & { usage: object },
);

describe('usage in an envelope, or in a choice', () => {
  const choice = { index: 0, finish_reason: 'stop' };
  it.each<[string, object]>([
    ['result (Cloudflare)', { result: { usage: COUNTS } }],
    ['data', { data: { usage: COUNTS } }],
    ['response', { response: { usage: COUNTS } }],
    ['response_metadata.token_usage (LangChain)', { response_metadata: { token_usage: COUNTS } }],
    ['usage_info', { usage_info: COUNTS }],
    ['tokenUsage', { tokenUsage: { promptTokens: 1_000, completionTokens: 100 } }],
    ['a message', { choices: [{ ...choice, message: { content: 'Hi.', usage: COUNTS } }] }],
    ['a choice', { choices: [{ ...choice, message: { content: 'Hi.' }, usage: COUNTS }] }],
  ])('%s', (_name, more) => {
    expect(readAnswer({ body: { ...WITHOUT_USAGE, ...more } })).toMatchObject({
      usage: 'final',
      inputTokens: 1_000,
      outputTokens: 100,
    });
  });

  it('is not what a client wrote into its own metadata', () => {
    const body = { ...WITHOUT_USAGE, metadata: { usage: { prompt_tokens: 1, total_tokens: 2 } } };
    expect(readAnswer({ body })).toMatchObject({ usage: 'missing' });
  });

  it('gives way to the usage proper', () => {
    const body = chatAnswer(COUNTS, { result: { usage: { prompt_tokens: 1 } } });
    expect(readAnswer({ body })).toMatchObject({ inputTokens: 1_000 });
  });
});

describe('parts in lists by modality (Gemini)', () => {
  it.each<[string, object]>([
    ['tokenCount', { promptTokensDetails: [{ modality: 'AUDIO', tokenCount: 900 }] }],
    ['token_count', { prompt_tokens_details: [{ modality: 'audio', token_count: 900 }] }],
  ])('%s of the prompt', (_name, details) => {
    const usage = { promptTokenCount: 1_000, candidatesTokenCount: 10, ...details };
    const body = chatAnswer(usage, { model: 'gemini-2.5-flash' });
    expect(readAnswer({ body })).toMatchObject({ inputTokens: 1_000, inputAudioTokens: 900 });
    // 100 of text at 0.30, 900 of audio at 1.00, 10 out at 2.50 USD a million.
    expect(meterCall({ body }).cost).toBe(955);
  });

  it('of an answer, thoughts beside it', () => {
    const usage = {
      promptTokenCount: 326,
      candidatesTokenCount: 2_340,
      thoughtsTokenCount: 337,
      totalTokenCount: 3_003,
      candidatesTokensDetails: [{ modality: 'IMAGE', tokenCount: 2_000 }],
    };
    expect(readAnswer({ body: chatAnswer(usage) })).toMatchObject({
      outputTokens: 2_677,
      outputImageTokens: 2_000,
      reasoningTokens: 337,
    });
  });
});

describe('the tier by another name (Vertex)', () => {
  const usage = { prompt_tokens: 1_000_000, completion_tokens: 100_000 };
  const within = (type: string): [string, object][] => [
    ['traffic_type', { ...usage, traffic_type: type }],
    ['trafficType', { ...usage, trafficType: type }],
    ['extra_properties', { ...usage, extra_properties: { google: { traffic_type: type } } }],
  ];
  const cost = (type: object) =>
    meterCall({ body: chatAnswer(type, { model: 'google/gemini-2.5-flash' }) });

  it.each([
    ['ON_DEMAND', 550_000],
    ['ON_DEMAND_FLEX', 275_000],
    ['FLEX', 275_000],
    ['BATCH', 275_000],
  ])('%s', (type, microdollars) => {
    for (const [, body] of within(type)) {
      expect(cost(body)).toMatchObject({ cost: microdollars, metadata: { estimated: null } });
    }
  });

  it('paid for in advance is flagged, for no answer tells what it cost', () => {
    for (const [, body] of within('PROVISIONED_THROUGHPUT')) {
      const { metadata } = cost(body);
      expect(metadata).toMatchObject({ estimated: 'incomplete' });
      expect(JSON.stringify(metadata)).toContain('service_tier:provisioned_throughput');
    }
  });
});

describe('speech by the second', () => {
  // The total counts its tokens, which are in neither part and are not what is paid for.
  const usage = {
    prompt_audio_seconds: 203,
    prompt_tokens: 4,
    completion_tokens: 635,
    total_tokens: 3_264,
  };

  it('is no output', () => {
    const body = chatAnswer(usage, { model: 'voxtral-small-latest' });
    expect(readAnswer({ body })).toMatchObject({
      inputTokens: 4,
      outputTokens: 635,
      charges: { audio_seconds: 203 },
    });
    expect(meterCall({ body }).metadata).toMatchObject({ estimated: 'incomplete' });
  });

  it('has a price where the list has one of the hour', () => {
    const query = { format: 'openai-chat', upstreamHost: 'api.groq.com', at: NOW } as const;
    const { prices = {} } = findListPrice({ ...query, model: 'whisper-large-v3' }) ?? {};
    const reader = createSideReader('audio', { streamed: false });
    reader.push(Buffer.from('{"text":"","usage":{"type":"duration","seconds":3600}}'));
    const price = priceUsage(toBilled(reader.end()), prices);
    expect(price?.unpriced).toEqual([]);
    expect(roundToMicrodollars(price?.usd ?? ZERO)).toBe(111_000);
  });

  it('costs its seconds alone where tokens are told too and only seconds have a price', () => {
    const reader = createSideReader('audio', { streamed: false });
    reader.push(Buffer.from(JSON.stringify({ model: 'voxtral-mini-latest', text: 'Hi.', usage })));
    const asked = { requestedModel: null, format: 'openai-chat', at: NOW } as const;
    const price = createPricer().price(reader.end(), { ...asked, upstreamHost: 'api.mistral.ai' });
    expect(price).toMatchObject({ costMicrodollars: 10_150 });
    expect(price).not.toHaveProperty('doubts');
  });
});

// https://github.com/api7/aisix/pull/868
describe('a transcript that tells no usage', () => {
  // Subtitles and plain text hold nothing but what was said. A minute of 16 kB a second.
  const recording = { inputTokens: 600, outputTokens: 1, usage: 'missing' } as const;
  const pricer = createPricer();
  const priceOf = (model: string, upstreamHost: string) =>
    pricer.price(
      { ...recording, model },
      { requestedModel: model, format: 'openai-chat', upstreamHost, at: NOW },
    );

  it('costs the seconds that its recording is taken to have, where only seconds have a price', () => {
    expect(priceOf('whisper-1', 'api.openai.com')).toMatchObject({ costMicrodollars: 6_000 });
    const groq = priceOf('whisper-large-v3', 'api.groq.com');
    expect(groq).toMatchObject({ costMicrodollars: 1_850 });
    expect(priceOf('gpt-4o-transcribe', 'api.openai.com')).toMatchObject({
      costMicrodollars: 1_510,
    });
  });

  it('costs the same where the price comes late, with what is kept of it or without', () => {
    const usage = {
      id: '01900000-0000-7000-8000-000000000001',
      created_at: NOW.toISOString(),
      kilo_user_id: 'ada',
      organization_id: null,
      provider: 'openai',
      model: 'whisper-1',
      requested_model: null,
      inference_provider: null,
      project_id: null,
      input_tokens: 600,
      output_tokens: 1,
      cache_write_tokens: 0,
      cache_hit_tokens: 0,
      reasoning_tokens: null,
    };
    const host = { format: 'openai-chat', upstreamHost: 'api.openai.com' } as const;
    const asked = { ...host, requestedModel: null, at: NOW };
    const { basis } = priceFields(pricer, { ...recording, model: 'mystery' }, asked);
    for (const usage_details of [{ price: { ...basis, host: host.upstreamHost } }, null]) {
      const late = repriceUnpriced(pricer, { ...usage, usage_details }, host);
      expect(late).toMatchObject({ cost: 6_000 });
    }
  });

  it('is expected to cost that', async () => {
    const form = new FormData();
    form.set('model', 'whisper-1');
    form.set('file', new Blob([new Uint8Array(960_000)]), 'a.mp3');
    const sent = new Response(form);
    const type = sent.headers.get('content-type') ?? '';
    const prepared = await prepareSideRequest('audio', Buffer.from(await sent.arrayBuffer()), type);
    const asked = { requestedModel: 'whisper-1', format: 'openai-chat', at: NOW } as const;
    const request = { prepared, side: 'audio', recent: null } as const;
    expect(expectedAmount(pricer, asked, request, 1_000)).toBe(6_000);
  });

  it('does so where its process died', () => {
    const intent = {
      api_kind: 'openai_transcriptions',
      requested_model: 'whisper-1',
      organization_id: null,
      created_at: NOW.toISOString(),
      input_tokens_estimate: 600,
      max_tokens: null,
    };
    expect(priceIntent(pricer, intent, 'api.openai.com')).toMatchObject({ cost: 6_000 });
  });

  it('has no price where its tokens were told', () => {
    const told = { ...recording, usage: 'final', model: 'whisper-1' } as const;
    const asked = { requestedModel: null, format: 'openai-chat', at: NOW } as const;
    expect(pricer.price(told, asked)).toMatchObject({ unpriced: true });
  });
});

describe('costs in other units, places and parts', () => {
  it.each<[string, object, number]>([
    ['cents', { cost_cents: 0.5 }, 5_000],
    ['cents of USD', { cost_in_cents: '0.5' }, 5_000],
    ['a price with its currency (Dify)', { total_price: '0.0012890', currency: 'USD' }, 1_289],
    ['an object of bare parts', { cost: { input: 0.001, output: 0.002 } }, 3_000],
    ['with its cache', { cost: { input: 0.001, output: 0.002, cacheRead: 0.0005 } }, 3_500],
    ['bare parts and their total', { cost: { input: 1, output: 2, total: 0.003 } }, 3_000],
  ])('%s', (_name, more, cost) => {
    const { metadata, cost: paid } = meterCall({ body: chatAnswer({ ...COUNTS, ...more }) });
    expect([paid, metadata?.reported_cost]).toEqual([cost, cost]);
  });

  it('beside the answer (AI/ML API)', () => {
    const meta = { usage: { credits_used: 78, usd_spent: 0.00003 } };
    expect(meterCall({ body: chatAnswer(COUNTS, { meta }) }).cost).toBe(30);
  });

  it.each<[string, object]>([
    ['another currency', { total_price: '0.5', currency: 'RMB' }],
    ['a price of one token', { prompt_unit_price: '0.001', completion_unit_price: '0.002' }],
  ])('%s is none', (_name, more) => {
    const { metadata } = meterCall({ body: chatAnswer({ ...COUNTS, ...more }) });
    expect(metadata?.reported_cost ?? null).toBeNull();
  });
});

describe('what is part of a count is not paid twice', () => {
  it('predicted tokens, accepted or not, are of the completion', () => {
    const completion_tokens_details = {
      accepted_prediction_tokens: 60,
      rejected_prediction_tokens: 20,
    };
    const body = chatAnswer({ ...COUNTS, completion_tokens_details });
    expect(readAnswer({ body })).toMatchObject({ outputTokens: 100 });
  });

  it('text_tokens that are the whole prompt do not stand beside the cache', () => {
    const details = { text_tokens: 1_000, cached_tokens: 980 };
    const body = chatAnswer({ ...COUNTS, prompt_tokens_details: details });
    expect(readAnswer({ body })).toMatchObject({ inputTokens: 1_000, cacheHitTokens: 980 });
  });

  it('images that came from the cache are paid as the cache', () => {
    const details = { text_tokens: 100, image_tokens: 900, cached_tokens: 950 };
    const body = chatAnswer({ ...COUNTS, prompt_tokens_details: details }, { model: 'grok-4' });
    const { inputTokens, inputImageTokens } = readAnswer({ body });
    expect([inputTokens, inputImageTokens]).toEqual([1_000, 50]);
  });

  it('a search that the provider counted is counted as it counts it', () => {
    const call = (id: string, type: string) => ({
      type: 'web_search_call',
      id,
      status: 'completed',
      action: { type },
    });
    const response = {
      id: 'r',
      model: 'gpt-5',
      status: 'completed',
      output: [call('a', 'search'), call('b', 'search'), call('c', 'open_page')],
      usage: { input_tokens: 1_000, output_tokens: 100 },
    };
    const read = (more: object) =>
      readAnswer({ format: 'openai-responses', body: { ...response, ...more } }).webSearches;
    expect(read({})).toBe(2);
    expect(read({ tool_usage: { web_search: { num_requests: 1 } } })).toBe(1);
    expect(read({ tool_usage: { web_search: { num_requests: 0 } } })).toBe(2);
  });
});

describe('messages of translators', () => {
  const start = (usage: object) => ({
    type: 'message_start',
    message: { id: 'm', model: 'claude-sonnet-4-5', content: [], usage },
  });
  const text = {
    type: 'content_block_delta',
    index: 0,
    delta: { type: 'text_delta', text: 'Hello' },
  };
  const end = { stop_reason: 'end_turn' };
  const read = (events: object[]) => readAnswer({ format: 'anthropic-messages', events } as Call);
  const FINAL = { usage: 'final', inputTokens: 100, outputTokens: 50 };

  it.each<[string, object[]]>([
    ['in the delta', [{ type: 'message_delta', delta: { ...end, usage: { output_tokens: 50 } } }]],
    [
      'in the stop',
      [
        { type: 'message_delta', delta: end },
        { type: 'message_stop', usage: { output_tokens: 50 } },
      ],
    ],
    [
      'in a message of the stop',
      [
        { type: 'message_delta', delta: end },
        { type: 'message_stop', message: { usage: { input_tokens: 100, output_tokens: 50 } } },
      ],
    ],
    [
      'in counts of Bedrock',
      [
        { type: 'message_delta', delta: end },
        {
          type: 'message_stop',
          'amazon-bedrock-invocationMetrics': { inputTokenCount: 100, outputTokenCount: 50 },
        },
      ],
    ],
  ])('have their usage %s', (_name, last) => {
    const stop = last.some((each) => 'type' in each && each.type === 'message_stop');
    const events = [start({ input_tokens: 100, output_tokens: 1 }), text, ...last];
    expect(read(stop ? events : [...events, { type: 'message_stop' }])).toMatchObject(FINAL);
  });

  it('have the cache within the prompt where they name it as OpenAI does', () => {
    const named = {
      prompt_tokens: 100,
      completion_tokens: 50,
      prompt_tokens_details: { cached_tokens: 30 },
    };
    const totalled = {
      input_tokens: 100,
      output_tokens: 50,
      total_tokens: 150,
      cache_read_input_tokens: 30,
    };
    for (const usage of [named, totalled]) {
      const events = [start({}), text, { type: 'message_delta', delta: end, usage }];
      expect(read(events)).toMatchObject({ ...FINAL, cacheHitTokens: 30 });
    }
  });

  it('have the cache beside the prompt in every other case', () => {
    const usage = { input_tokens: 100, output_tokens: 50, cache_read_input_tokens: 30 };
    for (const each of [usage, { ...usage, prompt_tokens: 130 }, { ...usage, total_tokens: 180 }]) {
      const events = [start({}), text, { type: 'message_delta', delta: end, usage: each }];
      expect(read(events)).toMatchObject({ inputTokens: 130, cacheHitTokens: 30 });
    }
  });
});

describe('calls of tools, wherever they are counted', () => {
  it.each<[string, object]>([
    ['search_queries', { search_queries: 2 }],
    ['web_search_requests', { web_search_requests: 2 }],
    ['num_web_searches', { num_web_searches: 2 }],
    ['an object for tools', { server_tool_usage: { web_search: 2 } }],
    ['another', { hosted_tools: { web_search: { calls: 2 } } }],
  ])('%s', (_name, more) => {
    expect(readAnswer({ body: chatAnswer({ ...COUNTS, ...more }) }).webSearches).toBe(2);
  });

  it('a tool of which only its tokens are told is flagged', () => {
    const tool_usage = { image_gen: { input_tokens: 50, output_tokens: 7_024 } };
    for (const body of [
      chatAnswer({ ...COUNTS, tool_usage }),
      chatAnswer(COUNTS, { tool_usage }),
    ]) {
      const { metadata } = meterCall({ body });
      expect(metadata).toMatchObject({ estimated: 'incomplete' });
      expect(JSON.stringify(metadata?.usage_details)).toContain('charge:image_gen');
    }
  });

  it('a call of a response that nobody knows is flagged, and no other', () => {
    const read = (type: string) =>
      readAnswer({
        format: 'openai-responses',
        body: {
          id: 'r',
          model: 'gpt-5',
          status: 'completed',
          output: [{ type, id: 'a' }],
          usage: { input_tokens: 9, output_tokens: 9 },
        },
      }).doubts;
    expect(read('video_generation_call')).toEqual(['charge:video_generation']);
    for (const type of ['function_call', 'mcp_call', 'shell_call', 'reasoning', 'message']) {
      expect(read(type)).toEqual([]);
    }
  });

  it('tokens, costs and times of tools are no calls', () => {
    const tools = { tool_usage: { search_tokens: 900, search_cost: 3, search_seconds: 7 } };
    const body = chatAnswer({ ...COUNTS, ...tools });
    expect(readAnswer({ body })).toMatchObject({ webSearches: 0, charges: {} });
  });
});

describe('totals', () => {
  const chunk = (usage: object) => ({
    model: 'gpt-4o',
    choices: [{ index: 0, delta: { content: 'x' }, finish_reason: 'stop' }],
    usage,
  });

  it('of the prompt and of the completion apart are added', () => {
    const events = [
      chunk({ prompt_tokens: 1_000, completion_tokens: 0, total_tokens: 1_000 }),
      chunk({ prompt_tokens: 0, completion_tokens: 100, total_tokens: 100 }),
    ];
    const reading = readAnswer({ events });
    expect(reading).toMatchObject({ inputTokens: 1_000, outputTokens: 100, doubts: [] });
  });

  it('beyond the parts of a message are output', () => {
    const usage = { input_tokens: 20, output_tokens: 198, total_tokens: 623 };
    const body = { type: 'message', id: 'm', model: 'x', content: [], usage };
    expect(readAnswer({ format: 'anthropic-messages', body })).toMatchObject({
      inputTokens: 20,
      outputTokens: 603,
    });
  });
});
