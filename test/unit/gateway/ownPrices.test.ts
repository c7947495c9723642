import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createPricer, type PriceContext, type Pricer } from '../../../src/gateway/prices/index.js';
import { parseOwnPrices } from '../../../src/gateway/prices/ownPrices.js';

const ORGANIZATION = '7d3f1c52-1b9e-4a53-8f0e-3f6f0a5f4b11';
const dir = mkdtempSync(path.join(tmpdir(), 'own-prices-'));
afterAll(() => rmSync(dir, { recursive: true }));

let files = 0;

function write(content: unknown, file = path.join(dir, `${++files}.json`)): string {
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

/** A million prompt tokens, so that a price per million is the cost. */
const MILLION = { model: 'gpt-4.1', inputTokens: 1_000_000, outputTokens: 0 };
const inOut = (input: string | number) => ({ input_mtok: input, output_mtok: '8' });

function cost(pricer: Pricer, more: Partial<PriceContext> = {}, reading: object = {}) {
  return pricer.price(
    { ...MILLION, ...reading },
    { requestedModel: null, format: 'openai-chat', at: new Date('2026-11-22T10:00:00Z'), ...more },
  );
}

describe("the operator's own prices", () => {
  const pricer = createPricer({
    ownPricesFile: write({
      version: '2026-11',
      prices: [
        { price: inOut('100') },
        { model: 'gpt-4*', price: inOut('90') },
        { model: 'gpt-4.1', price: inOut('80'), until: '2026-11-01' },
        { model: 'gpt-4.1', price: inOut('70'), from: '2026-11-01' },
        { model: 'gpt-4.1', price: inOut('60'), from: '2026-11-22T12:00:00+02:00' },
        { model: 'gpt-4.1', price: inOut('55'), from: '2026-11-01', service_tier: 'flex' },
        { model: '*', organization_id: ORGANIZATION.toUpperCase(), price: inOut('50.5') },
      ],
    }),
  });
  const microdollars = (usd: number) => ({ costMicrodollars: usd * 1e6, source: 'own' });

  it.each<[string, Partial<PriceContext>, object, number]>([
    ['any model', {}, { model: 'mystery' }, 100],
    ['a prefix', {}, { model: 'GPT-4o' }, 90],
    ['the model, from its date', {}, {}, 60],
    ['the one before', { at: new Date('2026-11-22T09:59:59.999Z') }, {}, 70],
    ['the one before that', { at: new Date('2026-10-31T23:59:59.999Z') }, {}, 80],
    ['the tier', {}, { serviceTier: 'flex' }, 55],
    ['the organization, before any model', { organizationId: ORGANIZATION }, {}, 50.5],
    [
      'as requested, where the answer names another',
      { requestedModel: 'gpt-4.1' },
      { model: 'x' },
      60,
    ],
  ])('%s', (_name, context, reading, usd) => {
    expect(cost(pricer, context, reading)).toMatchObject(microdollars(usd));
  });

  it('come before what the provider reports, which stays as the market cost', () => {
    expect(cost(pricer, {}, { costUsd: '3.5' })).toEqual({
      costMicrodollars: 60_000_000,
      marketCostMicrodollars: 3_500_000,
      source: 'own',
      version: '2026-11',
    });
  });

  it('keep the list price as the market cost; unknown stays unknown', () => {
    expect(cost(pricer)).toMatchObject({ marketCostMicrodollars: 2_000_000 });
    expect(cost(pricer, {}, { model: 'mystery' })).toMatchObject({ marketCostMicrodollars: null });
  });

  it('may be zero, and have tiers and cache prices', () => {
    const own = createPricer({
      ownPricesFile: write({
        prices: [
          { model: 'free', price: inOut(0) },
          {
            model: 'tiered',
            price: {
              input_mtok: { base: '1', tiers: [{ start: 999_999, price: '2' }] },
              cache_read_mtok: '0.1',
              output_mtok: '8',
            },
          },
        ],
      }),
    });
    expect(cost(own, {}, { model: 'free' })).toMatchObject({ costMicrodollars: 0, source: 'own' });
    expect(cost(own, {}, { model: 'tiered', cacheHitTokens: 400_000 })).toMatchObject({
      costMicrodollars: 1_240_000,
    });
  });
});

describe('multipliers', () => {
  const pricer = createPricer({
    ownPricesFile: write({
      multipliers: [
        { factor: '1.05' },
        { model: 'gpt-4.1', factor: 1.1 },
        { organization_id: ORGANIZATION, factor: '0.9' },
        { factor: '7', until: '2026-01-01' },
      ],
    }),
  });

  it('all that apply multiply, and are named in the version', () => {
    const price = cost(pricer, { organizationId: ORGANIZATION });
    expect(price).toMatchObject({
      costMicrodollars: 2_079_000,
      marketCostMicrodollars: 2_000_000,
      source: 'genai-prices',
      version: expect.stringMatching(/^\S+ openai\/gpt-4\.1 x1\.0395 \(own [0-9a-f]{12}\)$/),
    });
  });

  it('correct computed prices alone: what the provider reports is what it bills', () => {
    expect(cost(pricer, {}, { costUsd: '0.000425' })).toMatchObject({
      costMicrodollars: 425,
      source: 'upstream',
    });
  });

  it('make nothing of an unknown price', () => {
    expect(cost(pricer, {}, { model: 'mystery' })).toEqual({
      unpriced: true,
      reason: 'unknown_model',
    });
  });
});

describe('the file', () => {
  it.each<[string, unknown, string]>([
    ['not JSON', '{"prices":', 'the prices file is not valid JSON'],
    ['another type', '[]', 'the document'],
    ['an unknown member', { price: [] }, 'price'],
    ['no output price', { prices: [{ price: { input_mtok: 1 } }] }, 'prices[0].price'],
    ['an unknown price', { prices: [{ price: { ...inOut(1), x_mtok: 1 } }] }, 'prices[0].price'],
    ['a negative price', { prices: [{ price: inOut(-1) }] }, 'prices[0].price.input_mtok'],
    ['no number', { multipliers: [{ factor: 'a lot' }] }, 'multipliers[0].factor'],
    ['no date', { multipliers: [{ factor: 1, from: 'May' }] }, 'multipliers[0].from'],
    [
      'no UUID',
      { multipliers: [{ factor: 1, organization_id: 'x' }] },
      'multipliers[0].organization_id',
    ],
  ])('with %s is refused, naming the field', (_name, content, field) => {
    const text = typeof content === 'string' ? content : JSON.stringify(content);
    expect(() => parseOwnPrices(text)).toThrow(
      expect.objectContaining({
        code: 'invalid_request',
        message: expect.stringContaining(field),
      }),
    );
  });

  it('that is missing is refused at the start', () => {
    expect(() => createPricer({ ownPricesFile: path.join(dir, 'none.json') })).toThrow(
      /^MICRODOLLAR_PRICES_FILE: the file cannot be read \(ENOENT\)$/,
    );
  });

  it('is read again when it changes; a wrong one changes nothing', async () => {
    const file = write({ prices: [{ price: inOut('1') }] });
    const pricer = createPricer({ ownPricesFile: file });
    await pricer.reload();
    write({ prices: [{ price: inOut('25.25') }] }, file);
    expect(await pricer.reload()).toBe(true);
    expect(await pricer.reload()).toBe(false);
    expect(cost(pricer)).toMatchObject({ costMicrodollars: 25_250_000 });
    write('{"prices": [{}]}', file);
    await expect(pricer.reload()).rejects.toThrow('prices[0].price');
    expect(cost(pricer)).toMatchObject({ costMicrodollars: 25_250_000 });
    pricer.close();
  });

  it('is told once when it is removed, and read again when it is back', async () => {
    const file = write({ prices: [{ price: inOut('1') }] });
    const pricer = createPricer({ ownPricesFile: file });
    rmSync(file);
    await expect(pricer.reload()).rejects.toThrow('ENOENT');
    expect(await pricer.reload()).toBe(false);
    write({ prices: [{ price: inOut('25.25') }] }, file);
    expect(await pricer.reload()).toBe(true);
    pricer.close();
  });

  it('tells of a change that it cannot use, by itself', async () => {
    const file = write({});
    const seen = new Promise<Error>((resolve) => {
      createPricer({ ownPricesFile: file, pollIntervalMs: 5, onReloadError: resolve });
      write('{"multipliers": 3}', file);
    });
    expect((await seen).message).toContain('multipliers');
  });
});
