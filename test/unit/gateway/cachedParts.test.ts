import { calcPrice, findProvider } from '@pydantic/genai-prices';
import { describe, expect, it } from 'vitest';
import { toBilled } from '../../../src/gateway/prices/billedUsage.js';
import { roundToMicrodollars, ZERO } from '../../../src/gateway/prices/decimal.js';
import {
  createPricer,
  fromBasis,
  type PricedReading,
  priceFields,
} from '../../../src/gateway/prices/index.js';
import { findListPrice } from '../../../src/gateway/prices/listPrices.js';
import { type ModelPrice, priceUsage } from '../../../src/gateway/prices/modelPrice.js';
import { createSideReader } from '../../../src/gateway/processUsage/index.js';
import { meterCall, NOW, readAnswer } from './meterCall.js';

const pricer = createPricer();
const HOSTS: Record<string, string> = {
  openai: 'api.openai.com',
  google: 'generativelanguage.googleapis.com',
  azure: 'x.openai.azure.com',
};

function price(reading: PricedReading, upstreamHost: string) {
  return priceFields(pricer, reading, {
    requestedModel: null,
    format: 'openai-chat',
    upstreamHost,
    at: NOW,
  });
}

function readChat(model: string, usage: object) {
  return readAnswer({
    body: { id: 'x', model, choices: [{ message: { content: 'a' } }], ...usage },
  });
}

const SPEECH = {
  input_tokens: 1_000,
  output_tokens: 100,
  output_token_details: { text_tokens: 20, audio_tokens: 80 },
};
const SPOKEN = 20 * 2.4 + 80 * 20;

const speechOf = (details: object) =>
  readChat('gpt-realtime-mini', {
    usage: { ...SPEECH, input_token_details: { text_tokens: 300, audio_tokens: 700, ...details } },
  });
const costOfSpeech = (details: object) => price(speechOf(details), 'api.openai.com').cost;

describe('what came from a cache costs what its kind does', () => {
  it('speech (gpt-realtime)', () => {
    const cached_tokens_details = { text_tokens: 128, audio_tokens: 512, image_tokens: 0 };
    // 172 and 188 of them anew.
    const cost = 172 * 0.6 + 188 * 10 + 128 * 0.06 + 512 * 0.3 + SPOKEN;
    expect(costOfSpeech({ cached_tokens: 640, cached_tokens_details })).toBe(Math.round(cost));
  });

  it('speech in a stream, whose last chunk tells of it', () => {
    const details = {
      text_tokens: 300,
      audio_tokens: 700,
      cached_tokens: 640,
      cached_tokens_details: { text_tokens: 128, audio_tokens: 512 },
    };
    const reading = readAnswer({
      events: [
        { model: 'gpt-realtime-mini', choices: [{ index: 0, delta: { content: 'a' } }] },
        { choices: [], usage: { ...SPEECH, input_token_details: { audio_tokens: 700 } } },
        { choices: [], usage: { ...SPEECH, input_token_details: details } },
        '[DONE]',
      ],
    });
    expect(reading).toMatchObject({ cacheAudioTokens: 512, inputAudioTokens: 188 });
  });

  it('images (gpt-image)', () => {
    const reader = createSideReader('images', { streamed: false });
    const usage = {
      input_tokens: 1_000,
      output_tokens: 4_000,
      input_tokens_details: {
        text_tokens: 200,
        image_tokens: 800,
        cached_tokens: 600,
        cached_tokens_details: { text_tokens: 100, image_tokens: 500 },
      },
    };
    reader.push(Buffer.from(JSON.stringify({ model: 'gpt-image-1', data: [{}], usage })));
    const cost = 100 * 5 + 300 * 10 + 100 * 1.25 + 500 * 2.5 + 4_000 * 40;
    expect(price(reader.end(), 'api.openai.com').cost).toBe(cost);
  });

  it('images that a tool drew from others', () => {
    const input_tokens_details = {
      image_tokens: 800,
      cached_tokens: 600,
      cached_tokens_details: { image_tokens: 500 },
    };
    const body = {
      object: 'response',
      model: 'gpt-4.1',
      status: 'completed',
      output: [{ type: 'image_generation_call', id: 'i', status: 'completed' }],
      tools: [{ type: 'image_generation', model: 'gpt-image-1.5' }],
      usage: { input_tokens: 1_000, output_tokens: 10 },
      tool_usage: { image_gen: { input_tokens: 1_000, output_tokens: 50, input_tokens_details } },
    };
    const drawn = 100 * 5 + 300 * 8 + 100 * 1.25 + 500 * 2 + 50 * 32;
    const own = 1_000 * 2 + 10 * 8;
    expect(meterCall({ format: 'openai-responses', body }).cost).toBe(own + drawn);
  });

  it("Gemini's, which it tells in lists", () => {
    const usageMetadata = {
      promptTokenCount: 1_000,
      candidatesTokenCount: 50,
      totalTokenCount: 1_050,
      cachedContentTokenCount: 600,
      promptTokensDetails: [
        { modality: 'TEXT', tokenCount: 200 },
        { modality: 'AUDIO', tokenCount: 800 },
      ],
      cacheTokensDetails: [
        { modality: 'AUDIO', tokenCount: 500 },
        { modality: 'TEXT', tokenCount: 100 },
      ],
    };
    const reading = readChat('gemini-2.5-flash', { usageMetadata });
    const cost = 100 * 0.3 + 300 + 100 * 0.03 + 500 * 0.1 + 50 * 2.5;
    expect(price(reading, 'generativelanguage.googleapis.com').cost).toBe(cost);
  });

  it('as its kind, where a model has no price of the cache (gpt-audio)', () => {
    const prompt_tokens_details = { text_tokens: 200, audio_tokens: 800, cached_tokens: 512 };
    const usage = { prompt_tokens: 1_000, completion_tokens: 10 };
    const told = { ...prompt_tokens_details, cached_tokens_details: { audio_tokens: 512 } };
    const cost = 200 * 2.5 + 800 * 32 + 10 * 10;
    const costOf = (details: object) =>
      price(
        readChat('gpt-audio', { usage: { ...usage, prompt_tokens_details: details } }),
        'api.openai.com',
      ).cost;
    expect(costOf(told)).toBe(cost);
    // Not told, 312 must be speech; which the other 200 are, nobody knows.
    expect(costOf(prompt_tokens_details)).toBe(200 * 2.5 + 800 * 32 + 10 * 10);
  });

  it('where it is not told, as what has no room elsewhere', () => {
    const cost = 360 * 10 + 340 * 0.3 + 300 * 0.06 + SPOKEN;
    expect(costOfSpeech({ cached_tokens: 640 })).toBe(Math.round(cost));
    expect(costOfSpeech({ cached_tokens: 300 })).toBe(Math.round(700 * 10 + 300 * 0.06 + SPOKEN));
  });

  it('and is none of a kind that the prompt does not name, however much it is said to be', () => {
    const prompt_tokens_details = { cached_tokens: 1_500 };
    const usage = { prompt_tokens: 1_000, total_tokens: 1_010, prompt_tokens_details };
    const reading = readChat('gpt-audio', { usage });
    expect(reading).toMatchObject({ cacheAudioTokens: 0, cacheImageTokens: 0 });
    expect(price(reading, 'api.openai.com').cost).toBe(1_000 * 2.5 + 10 * 10);
  });

  it("at the operator's own prices, as the whole cache where they name no kind of it", () => {
    const reading = speechOf({
      cached_tokens: 640,
      cached_tokens_details: { text_tokens: 128, audio_tokens: 512 },
    });
    const prices = { input_mtok: '1', output_mtok: '0', input_audio_mtok: '20' };
    const costOf = (more: ModelPrice) =>
      roundToMicrodollars(priceUsage(toBilled(reading), { ...prices, ...more })?.usd ?? ZERO);
    const anew = 172 + 188 * 20;
    expect(costOf({})).toBe(anew + 128 + 512 * 20);
    expect(costOf({ cache_read_mtok: '3' })).toBe(anew + 640 * 3);
    const both = { cache_read_mtok: '3', cache_audio_read_mtok: '5' };
    expect(costOf(both)).toBe(anew + 128 * 3 + 512 * 5);
  });

  it('as the list itself reckons, for each model that has such prices', () => {
    const reading = {
      inputTokens: 100_000,
      outputTokens: 0,
      cacheHitTokens: 60_000,
      cacheAudioTokens: 20_001,
      cacheImageTokens: 10_003,
      inputAudioTokens: 7_007,
      inputImageTokens: 5_005,
    };
    const usage = {
      input_tokens: 100_000,
      cache_read_tokens: 60_000,
      cache_audio_read_tokens: 20_001,
      cache_image_read_tokens: 10_003,
      input_audio_tokens: 27_008,
      input_image_tokens: 15_008,
    };
    const compared: string[] = [];
    for (const providerId of ['openai', 'google', 'azure']) {
      const models = findProvider({ providerId })?.models ?? [];
      for (const { id: model } of models) {
        const theirs = calcPrice(usage, model, { providerId, timestamp: NOW });
        const { cache_audio_read_mtok: audio, cache_image_read_mtok: image } =
          (theirs?.model_price ?? {}) as ModelPrice;
        if (theirs === null || (audio ?? image) === undefined) continue;
        const list = findListPrice({
          model,
          format: 'openai-chat',
          upstreamHost: HOSTS[providerId] ?? null,
          at: NOW,
        });
        const billed = toBilled({ ...reading, model });
        const ours = priceUsage(billed, { output_mtok: '0', ...list?.prices });
        const microdollars = ours && roundToMicrodollars(ours.usd);
        expect([model, Math.abs(Number(microdollars) - theirs.total_price * 1e6) <= 1]).toEqual([
          model,
          true,
        ]);
        compared.push(model);
      }
    }
    expect(compared.length).toBeGreaterThan(12);
  });

  it.each<[string, object, object]>([
    ['more than all', { audio_tokens: 9_999 }, { cacheAudioTokens: 640, inputAudioTokens: 60 }],
    ['as text', { audio_tokens: '512' }, { cacheAudioTokens: 512, inputAudioTokens: 188 }],
    ['below nothing', { audio_tokens: -5 }, { cacheAudioTokens: 340, inputAudioTokens: 360 }],
    ['no object', ['audio_tokens'], { cacheAudioTokens: 340, inputAudioTokens: 360 }],
    ['two, together more', { audio_tokens: 600, image_tokens: 600 }, { cacheImageTokens: 40 }],
  ])('told as %s', (_name, cached_tokens_details, expected) => {
    const reading = speechOf({ cached_tokens: 640, cached_tokens_details });
    expect(reading).toMatchObject(expected);
    const { inputAudioTokens, cacheAudioTokens, cacheImageTokens } = reading;
    expect(cacheAudioTokens + cacheImageTokens).toBeLessThanOrEqual(640);
    expect(inputAudioTokens).toBeLessThanOrEqual(360);
  });

  it('beside the others of its kind, where it is more than they are', () => {
    const details = { audio_tokens: 100, cached_tokens_details: { audio_tokens: 512 } };
    const reading = speechOf({ ...details, cached_tokens: 640 });
    expect(reading).toMatchObject({ cacheAudioTokens: 512, inputAudioTokens: 100 });
  });

  it('not at all where nothing came from it', () => {
    const reading = speechOf({ cached_tokens: 0, cached_tokens_details: { audio_tokens: 512 } });
    expect(reading).toMatchObject({ cacheAudioTokens: 0, inputAudioTokens: 700 });
  });

  it('the same where the price comes late', () => {
    const cached_tokens_details = { text_tokens: 100, audio_tokens: 512, image_tokens: 28 };
    const reading = speechOf({ cached_tokens: 640, image_tokens: 30, cached_tokens_details });
    const { basis } = price({ ...reading, model: 'mystery' }, 'llm.example');
    expect(basis).toMatchObject({ cache_audio_tokens: 512, cache_image_tokens: 28 });
    const kept = fromBasis(JSON.parse(JSON.stringify({ price: basis })));
    const late = price({ model: reading.model, ...kept?.reading }, 'api.openai.com');
    expect(late.cost).toBe(price(reading, 'api.openai.com').cost);
  });
});
