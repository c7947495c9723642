import type { UsageReading, WireFormat } from '../processUsage/types.js';
import {
  add,
  type Decimal,
  formatDecimal,
  multiply,
  parseDecimal,
  roundToMicrodollars,
  ZERO,
} from './decimal.js';
import { findListPrice } from './listPrices.js';
import { type BilledUsage, priceUsage } from './modelPrice.js';
import { findMultipliers, findOwnPrice, type OwnPrices, type PriceSubject } from './ownPrices.js';
import { OwnPricesFile } from './ownPricesFile.js';

/** What was used, as far as a price depends on it. A `UsageReading` is one. */
export type PricedReading = Partial<UsageReading> & Pick<UsageReading, 'model'>;

export interface PriceContext {
  requestedModel: string | null;
  format: WireFormat;
  /** Host of the provider's URL; null = unknown. */
  upstreamHost?: string | null;
  organizationId?: string | null;
  /** Of the request: prices have dates. */
  at: Date;
}

export interface Price {
  /** Microdollars, rounded once, half away from zero. */
  costMicrodollars: number;
  /** Without the operator's own prices and multipliers; null = not known. */
  marketCostMicrodollars: number | null;
  source: 'own' | 'upstream' | 'genai-prices';
  /** Of the source; with the multipliers, if any. */
  version: string;
}

export interface Unpriced {
  unpriced: true;
  reason: 'no_model' | 'unknown_model' | 'incomplete_price' | 'out_of_range';
}

export interface PricerOptions {
  /** JSON; see README.md. Read again when it changes. */
  ownPricesFile?: string | null;
  /** How often to look for a change. Default 5,000 ms. */
  pollIntervalMs?: number;
  /** A changed file that cannot be used: the prices before it stay. */
  onReloadError?: (error: Error) => void;
}

export interface Pricer {
  price(reading: PricedReading, context: PriceContext): Price | Unpriced;
  /** Looks now whether the file has changed; true when new prices are in force. */
  reload(): Promise<boolean>;
  close(): void;
}

/**
 * Prices of answers: the operator's own for the model and organization, else what the provider
 * reports, else the list price; then the operator's multipliers. Never zero for want of a price.
 * @throws LedgerError `invalid_request` for a file that is missing or wrong, naming the field
 */
export function createPricer(options: PricerOptions = {}): Pricer {
  const file = options.ownPricesFile ? new OwnPricesFile(options.ownPricesFile, options) : null;
  return {
    price: (reading, context) => priceReading(reading, context, file?.current ?? null),
    reload: async () => (await file?.reload()) ?? false,
    close: () => file?.close(),
  };
}

interface ExactPrice {
  usd: Decimal;
  source: Price['source'];
  version: string;
}

function priceReading(
  reading: PricedReading,
  context: PriceContext,
  own: OwnPrices | null,
): Price | Unpriced {
  const models = [reading.model, context.requestedModel].filter((each) => each !== null);
  const market = priceAtMarket(reading, context, models);
  const base = own === null ? market : (priceAtOwn(reading, context, own) ?? market);
  if ('unpriced' in base) return base;
  const factors = own === null ? [] : findMultipliers(own, toSubject(models, reading, context));
  try {
    return {
      costMicrodollars: roundToMicrodollars(applyFactors(base.usd, factors)),
      marketCostMicrodollars: 'unpriced' in market ? null : roundToMicrodollars(market.usd),
      source: base.source,
      version: nameVersion(base.version, factors, own).slice(0, 256),
    };
  } catch {
    return { unpriced: true, reason: 'out_of_range' };
  }
}

/** What the provider reports, else the list price. */
function priceAtMarket(
  reading: PricedReading,
  context: PriceContext,
  models: readonly string[],
): ExactPrice | Unpriced {
  const reported = priceReported(reading);
  if (reported !== null) {
    return { usd: reported, source: 'upstream', version: context.upstreamHost ?? '' };
  }
  if (models.length === 0) return { unpriced: true, reason: 'no_model' };
  const { format, at, upstreamHost = null } = context;
  let unpriced: Unpriced = { unpriced: true, reason: 'unknown_model' };
  for (const model of models) {
    const list = findListPrice({ model, format, upstreamHost, at });
    const own = list && priceUsage(toBilled(reading), list.prices);
    if (list && !own) unpriced = { unpriced: true, reason: 'incomplete_price' };
    if (!list || !own) continue;
    const usd = addOtherModels(own, reading, (other, usage) => {
      const price = findListPrice({ model: other, format, upstreamHost, at });
      return price && priceUsage(usage, price.prices);
    });
    if (usd === null) return { unpriced: true, reason: 'unknown_model' };
    return { usd, source: 'genai-prices', version: list.version };
  }
  return unpriced;
}

/** Null where the operator has no price for the model that answered. */
function priceAtOwn(
  reading: PricedReading,
  context: PriceContext,
  own: OwnPrices,
): ExactPrice | null {
  const models = [reading.model, context.requestedModel].filter((each) => each !== null);
  const prices = findOwnPrice(own, toSubject(models, reading, context));
  const base = prices && priceUsage(toBilled(reading), prices);
  if (!base) return null;
  const { format, at, upstreamHost = null } = context;
  const usd = addOtherModels(base, reading, (model, usage) => {
    const price =
      findOwnPrice(own, toSubject([model], reading, context)) ??
      findListPrice({ model, format, upstreamHost, at })?.prices;
    return price ? priceUsage(usage, price) : null;
  });
  return usd && { usd, source: 'own', version: own.version };
}

/** USD as reported; for a key of the operator's own, with what that key paid its provider. */
function priceReported(reading: PricedReading): Decimal | null {
  const cost = reading.costUsd == null ? null : parseDecimal(reading.costUsd);
  if (cost === null || cost.units < 0n) return null;
  const upstream = reading.upstreamCostUsd == null ? null : parseDecimal(reading.upstreamCostUsd);
  return reading.isByok && upstream !== null ? add(cost, upstream) : cost;
}

function addOtherModels(
  base: Decimal,
  reading: PricedReading,
  price: (model: string, usage: BilledUsage) => Decimal | null,
): Decimal | null {
  let total: Decimal | null = base;
  for (const { model, tokens } of reading.otherModels ?? []) {
    const more = price(model, { ...NOTHING, ...tokens });
    total = total && more && add(total, more);
  }
  return total;
}

const NOTHING: BilledUsage = {
  inputTokens: 0,
  outputTokens: 0,
  cacheHitTokens: 0,
  cacheWriteTokens: 0,
  cacheWrite1hTokens: 0,
  inputAudioTokens: 0,
  inputImageTokens: 0,
  outputAudioTokens: 0,
  outputImageTokens: 0,
  reasoningTokens: 0,
  webSearches: 0,
  fileSearches: 0,
};

function toBilled(reading: PricedReading): BilledUsage {
  const billed = { ...NOTHING };
  for (const part of Object.keys(NOTHING) as (keyof BilledUsage)[]) {
    billed[part] = reading[part] ?? 0;
  }
  return billed;
}

function toSubject(
  models: readonly string[],
  reading: PricedReading,
  { organizationId = null, at }: PriceContext,
): PriceSubject {
  return { models, organizationId, serviceTier: reading.serviceTier ?? null, at };
}

function applyFactors(usd: Decimal, factors: readonly (string | number)[]): Decimal {
  return factors.reduce((product, each) => multiply(product, parseDecimal(each) ?? ZERO), usd);
}

/** `0.1.8 openai/gpt-5 x1.05 (own 3f2a9c01b7de)`. */
function nameVersion(
  version: string,
  factors: readonly (string | number)[],
  own: OwnPrices | null,
): string {
  if (factors.length === 0 || own === null) return version;
  const factor = formatDecimal(applyFactors({ units: 1n, scale: 0 }, factors));
  return `${version} x${factor} (own ${own.version})`.trim();
}
