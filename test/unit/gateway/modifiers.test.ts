import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createPricer, type Pricer } from '../../../src/gateway/prices/index.js';
import type { WireFormat } from '../../../src/gateway/processUsage/index.js';
import { chatAnswer, meterCall } from './meterCall.js';

const dir = mkdtempSync(path.join(tmpdir(), 'modifiers-'));
const pricers: Pricer[] = [];
afterAll(() => {
  for (const pricer of pricers) pricer.close();
  rmSync(dir, { recursive: true });
});

function withPrices(content: object): Pricer {
  const file = path.join(dir, `${pricers.length}.json`);
  writeFileSync(file, JSON.stringify(content));
  pricers.push(createPricer({ ownPricesFile: file }));
  return pricers.at(-1) as Pricer;
}

interface Served {
  format?: WireFormat;
  host?: string;
  now?: Date;
  pricer?: Pricer;
  /** Of the answer, and of its usage. */
  answer?: object;
  usage?: object;
}

/** A million tokens in and a million out, so that prices a million are the cost. */
function served(model: string, { format, host, now, pricer, answer, usage }: Served = {}) {
  const asked = { ...(format && { format }), ...(host && { host }), ...(now && { now }) };
  const options = { ...asked, ...(pricer && { pricer }) };
  if (format === 'anthropic-messages') {
    const counts = { input_tokens: 1_000_000, output_tokens: 1_000_000, ...usage };
    const body = { type: 'message', id: 'm', model, content: [], usage: counts, ...answer };
    return meterCall({ ...options, body });
  }
  const counts = { prompt_tokens: 1_000_000, completion_tokens: 1_000_000, ...usage };
  return meterCall({ ...options, body: chatAnswer(counts, { model, ...answer }) });
}

const tier = (service_tier: string) => ({ answer: { service_tier } });
const usd = (cost: number) => Math.round(cost * 1e6);
const known = (cost: number) => ({ cost: usd(cost), metadata: { estimated: null } });
const doubtful = (cost: number, doubt: string) => ({
  cost: usd(cost),
  metadata: { estimated: 'incomplete', usage_details: { doubts: [doubt] } },
});

describe('tiers of OpenAI', () => {
  it.each<[string, string, number]>([
    ['gpt-5-nano', 'flex', 0.225],
    ['gpt-5-2025-08-07', 'flex', 5.625],
    ['o3', 'flex', 5],
    ['gpt-4o-mini-2024-07-18', 'priority', 1.25],
    ['gpt-4o', 'priority', 21.25],
    ['gpt-4.1', 'priority', 17.5],
    ['gpt-4.1-nano', 'priority', 1],
    ['o4-mini', 'priority', 10],
    ['gpt-5-mini', 'priority', 4.05],
    ['gpt-5', 'priority', 22.5],
    ['gpt-5', 'fast', 22.5],
    ['gpt-5', 'Priority', 22.5],
    ['gpt-5', 'batch', 5.625],
    ['gpt-5', 'default', 11.25],
    ['gpt-5', 'auto', 11.25],
  ])('%s at %s', (model, name, cost) => {
    expect(served(model, tier(name))).toMatchObject(known(cost));
    const usage = { service_tier: name };
    expect(served(model, { usage })).toMatchObject(known(cost));
  });

  it.each<[string, string, number]>([
    ['gpt-5', 'scale', 11.25],
    ['gpt-5-nano', 'priority', 0.45],
    ['gpt-5', 'turbo', 11.25],
  ])('%s at %s is flagged', (model, name, cost) => {
    expect(served(model, tier(name))).toMatchObject(doubtful(cost, `service_tier:${name}`));
  });

  it('change every price of tokens, and none of tools', () => {
    const usage = { prompt_tokens_details: { cached_tokens: 1_000_000 } };
    // Cached at 0.125, out at 10, both halved; a search at 10 a thousand.
    const event = served('gpt-5', {
      answer: { service_tier: 'flex' },
      usage: { ...usage, server_tool_use: { web_search_requests: 1_000 } },
    });
    expect(event).toMatchObject(known(5.0625 + 10));
  });

  it('hold for the tier that served, which the last event names', () => {
    const event = (type: string, service_tier: string, usage: object | null) => ({
      type,
      response: { id: 'r', model: 'gpt-5', status: 'completed', service_tier, usage },
    });
    const events = [
      event('response.created', 'auto', null),
      event('response.completed', 'flex', { input_tokens: 1_000_000, output_tokens: 0 }),
    ];
    expect(meterCall({ format: 'openai-responses', events })).toMatchObject(known(0.625));
  });
});

describe('tiers of others', () => {
  it.each<[string, string, string, number]>([
    ['llama-3.3-70b-versatile', 'api.groq.com', 'on_demand', 1.38],
    ['llama-3.3-70b-versatile', 'api.groq.com', 'flex', 1.38],
    ['gemini-2.5-flash', 'generativelanguage.googleapis.com', 'flex', 1.4],
  ])('%s at %s: %s', (model, host, name, cost) => {
    expect(served(model, { host, ...tier(name) })).toMatchObject(known(cost));
  });

  it('that nobody knows are flagged', () => {
    expect(
      served('llama-3.3-70b-versatile', { host: 'api.groq.com', ...tier('performance') }),
    ).toMatchObject(doubtful(1.38, 'service_tier:performance'));
  });
});

describe('Anthropic', () => {
  const format = 'anthropic-messages';

  it.each<[string, object, number]>([
    ['claude-opus-4-6', { speed: 'fast' }, 180],
    ['claude-opus-4-7', { speed: 'fast' }, 180],
    ['claude-opus-5', { speed: 'fast' }, 60],
    ['claude-opus-4-7', { speed: 'standard', service_tier: 'standard' }, 30],
    ['claude-opus-4-7', { inference_geo: 'us' }, 33],
    ['claude-opus-4-7', { inference_geo: 'global' }, 30],
    ['claude-opus-4-7', { inference_geo: 'not_available' }, 30],
    ['claude-opus-4-7', { inference_geo: 'us', speed: 'fast' }, 198],
    ['claude-opus-4-7', { service_tier: 'batch' }, 15],
  ])('%s with %j', (model, usage, cost) => {
    expect(served(model, { format, usage })).toMatchObject(known(cost));
  });

  it.each<[string, object, number, string]>([
    ['claude-haiku-4-5', { speed: 'fast' }, 6, 'speed:fast'],
    ['claude-opus-4-7', { inference_geo: 'eu' }, 30, 'region:eu'],
    ['claude-opus-4-7', { service_tier: 'priority' }, 30, 'service_tier:priority'],
    ['claude-opus-4-7', { speed: 'ludicrous' }, 30, 'speed:ludicrous'],
  ])('%s with %j is flagged', (model, usage, cost, doubt) => {
    expect(served(model, { format, usage })).toMatchObject(doubtful(cost, doubt));
  });
});

describe('where an answer was made', () => {
  const format = 'anthropic-messages';

  it.each<[string, string, number]>([
    ['gpt-5.4', 'us.api.openai.com', 1.1 * (5 + 22.5)],
    ['gpt-5.4', 'eu.api.openai.com:443', 1.1 * (5 + 22.5)],
    ['gpt-5.4', 'api.openai.com', 5 + 22.5],
    ['gpt-4o', 'eu.api.openai.com', 12.5],
    // https://github.com/BerriAI/litellm/issues/34393
    ['gemini-3.5-flash', 'aiplatform.eu.rep.googleapis.com', 1.1 * (1.5 + 9)],
    ['google/gemini-3.5-flash', 'us-central1-aiplatform.googleapis.com', 1.1 * (1.5 + 9)],
    ['gemini-3.5-flash', 'aiplatform.us-central1.rep.googleapis.com', 1.1 * (1.5 + 9)],
    ['claude-haiku-4-5', 'aiplatform.us-east5.rep.googleapis.com', 1.1 * (1 + 5)],
    ['gemini-3.1-flash-lite', 'aiplatform.eu.rep.googleapis.com', 1.1 * (0.25 + 1.5)],
    ['gemini-3.1-flash-lite-preview', 'aiplatform.eu.rep.googleapis.com', 0.25 + 1.5],
    ['google/gemini-3-pro-image', 'aiplatform.eu.rep.googleapis.com', 1.1 * (2 + 12)],
    ['gemini-3-pro-image-preview', 'aiplatform.eu.rep.googleapis.com', 2 + 12],
    ['gemini-3.5-flash', 'aiplatform.googleapis.com', 1.5 + 9],
    ['gemini-3.5-flash', 'generativelanguage.googleapis.com', 1.5 + 9],
    ['gemini-2.5-flash', 'us-central1-aiplatform.googleapis.com', 0.3 + 2.5],
  ])('%s at %s', (model, host, cost) => {
    expect(served(model, { host })).toMatchObject(known(cost));
  });

  it.each<[string, number]>([
    ['2026-06-30T23:59:59Z', 1.5 + 9],
    ['2026-07-01T00:00:00Z', 1.1 * (1.5 + 9)],
  ])('of Gemini costs more since July 2026: %s', (at, cost) => {
    const host = 'aiplatform.eu.rep.googleapis.com';
    const now = new Date(at);
    expect(served('gemini-3.5-flash', { host, now })).toMatchObject(known(cost));
  });

  it.each<[string, string, number]>([
    ['claude-opus-4-7', 'us-east5-aiplatform.googleapis.com', 33],
    ['claude-opus-4-7', 'aiplatform.googleapis.com', 30],
    ['us.anthropic.claude-opus-4-7', 'bedrock-runtime.us-east-1.amazonaws.com', 33],
    ['global.anthropic.claude-opus-4-7', 'bedrock-runtime.us-east-1.amazonaws.com', 30],
    ['us.anthropic.claude-opus-4-7', 'bedrock-mantle.us-east-1.api.aws', 33],
    ['us.anthropic.claude-opus-4-7', '10.0.0.7:8080', 33],
  ])('%s at %s', (model, host, cost) => {
    expect(served(model, { format, host })).toMatchObject(known(cost));
  });
});

describe("the operator's file", () => {
  const flex = { model: 'gpt-5', service_tier: 'flex' };

  it('takes the place of what is known of a modifier', () => {
    const pricer = withPrices({ multipliers: [{ ...flex, factor: '0.4' }] });
    expect(served('gpt-5', { pricer, ...tier('flex') })).toMatchObject(known(4.5));
    expect(served('gpt-5', { pricer, ...tier('priority') })).toMatchObject(known(22.5));
  });

  it.each<[string, object, Served]>([
    ['service_tier', { service_tier: 'Scale' }, tier('scale')],
    ['speed', { speed: 'fast' }, { format: 'anthropic-messages', usage: { speed: 'fast' } }],
    ['region', { region: 'eu' }, { format: 'anthropic-messages', usage: { inference_geo: 'eu' } }],
    [
      'speed, by its old name',
      { service_tier: 'fast' },
      {
        format: 'anthropic-messages',
        usage: { speed: 'fast' },
      },
    ],
    ['host', { host: 'llm.example' }, { host: 'llm.example:8443' }],
    ['search_context', { search_context: 'low' }, { usage: { search_context_size: 'low' } }],
  ])('can name every modifier: %s', (_name, scope, how) => {
    const model = how.format === undefined ? 'gpt-5' : 'claude-haiku-4-5';
    const list = how.format === undefined ? 11.25 : 6;
    const pricer = withPrices({ multipliers: [{ ...scope, factor: '3' }] });
    expect(served(model, { ...how, pricer })).toMatchObject(known(list * 3));
    const price = { input_mtok: '100', output_mtok: '1' };
    const own = withPrices({
      prices: [{ price: { input_mtok: '7', output_mtok: '0' } }, { ...scope, price }],
    });
    expect(served(model, { ...how, pricer: own })).toMatchObject(known(101));
    expect(served(model, { pricer: own, ...(how.format && { format: how.format }) })).toMatchObject(
      known(7),
    );
  });

  it('multiplies what is computed, never what the provider reports', () => {
    const pricer = withPrices({
      multipliers: [
        { model: 'gpt-4o-mini', service_tier: 'priority', factor: '1.6666666666666667' },
      ],
    });
    const reported = { ...tier('priority'), usage: { cost: 0.000425 }, pricer };
    expect(served('gpt-4o-mini', reported)).toMatchObject(known(0.000425));
    expect(served('gpt-4o-mini', { ...tier('priority'), pricer })).toMatchObject(known(1.25));
  });

  it('adds the margin to any cost, once', () => {
    const pricer = withPrices({
      version: 'm',
      prices: [{ model: 'house', price: { input_mtok: '1', output_mtok: '1' } }],
      multipliers: [{ model: 'gpt-5', factor: '2' }],
      margins: [{ factor: '1.05' }, { model: 'gpt-*', factor: '1.1', until: '2026-01-01' }],
    });
    expect(served('gpt-5', { pricer })).toMatchObject({
      cost: usd(11.25 * 2 * 1.05),
      metadata: {
        market_cost: usd(11.25),
        price_version: expect.stringMatching(/x2\.1 \(own m\)$/),
      },
    });
    expect(served('gpt-5', { pricer, usage: { cost: '0.5' } })).toMatchObject({
      cost: usd(0.525),
      metadata: { market_cost: usd(0.5), reported_cost: usd(0.5), price_source: 'upstream' },
    });
    expect(served('house', { pricer })).toMatchObject({
      cost: usd(2.1),
      metadata: { market_cost: null, price_source: 'own' },
    });
  });

  it('bounds a cost by what the ledger takes, and says so', () => {
    const pricer = withPrices({ margins: [{ factor: '1000000' }] });
    expect(served('gpt-5', { pricer })).toMatchObject({
      cost: 1e12,
      metadata: { estimated: 'incomplete', usage_details: { doubts: ['cost'] } },
    });
  });
});
