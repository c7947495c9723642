import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { calcPrice, findProvider, type ModelInfo, type PriceOptions } from '@pydantic/genai-prices';
import type { WireFormat } from '../processUsage/types.js';
import { scalePrice } from './applyModifiers.js';
import { otherNamesOf } from './modelNames.js';
import type { ModelPrice } from './modelPrice.js';
import { withToolPrices } from './toolPrices.js';

/** Public list prices: genai-prices finds the model and its price on the day; we do the sums. */
export interface ListPrice {
  /** With those of the provider's tools. */
  prices: ModelPrice;
  /** As the list calls them. */
  provider: string;
  modelId: string;
  /** As it was found by, without what clouds put around it. */
  name: string;
  /** Of the price list, with provider and model: `0.1.8 openai/gpt-4.1-nano`. */
  version: string;
}

export interface ListPriceQuery {
  model: string;
  format: WireFormat;
  /** Of the provider's URL; tells resellers from makers. */
  upstreamHost: string | null;
  at: Date;
}

const MAX_CACHED = 1_000;
const OWN_PROVIDER = {
  'openai-chat': 'openai',
  'openai-responses': 'openai',
  'anthropic-messages': 'anthropic',
} as const satisfies Record<WireFormat, string>;

const DAY_MS = 86_400_000;

/** Finding a model matches it against hundreds of patterns, so what was found is kept. */
const cache = new Map<string, ListPrice | null>();
let listVersion: string | null = null;

/**
 * A provider that the list knows by its host is taken at its word: a model it does not list has no
 * price. Elsewhere the model's maker is looked for. Null = no price.
 */
export function findListPrice(query: ListPriceQuery): ListPrice | null {
  const host = query.upstreamHost?.toLowerCase() ?? '';
  // Prices change at the turn of a UTC day, or by the time of day.
  const day = Math.floor(query.at.getTime() / DAY_MS);
  const key = `${day} ${query.format} ${host} ${query.model}`;
  const cached = cache.get(key);
  if (cached !== undefined) return cached;
  const found = lookUp(query, host);
  if (found?.dependsOnHour) return found;
  if (cache.size >= MAX_CACHED) cache.clear();
  cache.set(key, found);
  return found;
}

function lookUp({ model, format, at }: ListPriceQuery, host: string) {
  const known = providerOf(host);
  const ask = (name: string, provider: string | null) =>
    known === null ? findMaker(name, provider, format, at) : find(name, at, known);
  const found = ask(model, null);
  if (found !== null) return found;
  for (const other of otherNamesOf(model)) {
    const price = ask(other.model, other.provider);
    if (price !== null) return price;
  }
  return null;
}

/** Bedrock has more hosts than the list knows. */
const BEDROCK_HOST = /^bedrock[a-z-]*\.[a-z0-9-]+\.(amazonaws\.com|api\.aws)(:\d+)?$/;

function providerOf(host: string): string | null {
  if (host === '') return null;
  if (BEDROCK_HOST.test(host)) return 'aws';
  return findProvider({ providerApiUrl: `https://${host}` })?.id ?? null;
}

/** Behind a host that nobody knows: the price of whoever made the model. */
function findMaker(model: string, provider: string | null, format: WireFormat, at: Date) {
  if (provider !== null) return find(model, at, provider);
  const own = find(model, at, OWN_PROVIDER[format]);
  if (own !== null) return own;
  const slash = model.indexOf('/');
  const vendor = model.slice(0, Math.max(0, slash));
  if (vendor !== '' && findProvider({ providerId: vendor }) !== undefined) {
    return find(model.slice(slash + 1), at, vendor);
  }
  return find(model, at, null);
}

function find(model: string, at: Date, providerId: string | null) {
  const options: PriceOptions = providerId === null ? {} : { providerId };
  try {
    const ask = (timestamp: Date) => calcPrice({}, model, { ...options, timestamp });
    const usual = ask(at);
    if (usual === null) return null;
    const provider = usual.provider.id;
    const found = provider === 'deepseek' && isCheapPeak(at) ? (ask(middayOf(at)) ?? usual) : usual;
    return {
      prices: withToolPrices(
        provider,
        model,
        withHourOfCache(provider, found.model.id, found.model_price as ModelPrice),
      ),
      provider,
      modelId: found.model.id,
      name: model,
      version: `${readVersion()} ${provider}/${found.model.id}`,
      dependsOnHour: dependsOnHour(found.model),
    };
  } catch {
    // A price that the list itself cannot compute with is none.
    return null;
  }
}

/** Clouds that sell Claude as its maker does; the list lacks their price of an hour in the cache. */
const CLOUDS: ReadonlySet<string> = new Set(['aws', 'google']);

function withHourOfCache(provider: string, modelId: string, prices: ModelPrice): ModelPrice {
  const { input_mtok, cache_write_mtok, cache_write_1h_mtok } = prices;
  const isKnown = cache_write_1h_mtok !== undefined || cache_write_mtok === undefined;
  if (isKnown || input_mtok === undefined) return prices;
  if (!CLOUDS.has(provider) || !modelId.includes('claude')) return prices;
  return { ...prices, cache_write_1h_mtok: scalePrice(input_mtok, '2') };
}

const PEAKS_FROM = new Date('2026-08-17');
const WORKING_DAYS_FROM = new Date('2026-08-23');

/**
 * DeepSeek's dear hours are those of Beijing's working days, in their first week of all days; the list
 * has them on every day, and of all time. The day is the same in UTC then.
 */
function isCheapPeak(at: Date): boolean {
  const hour = at.getUTCHours();
  if (hour < 1 || hour >= 10) return false;
  return at < PEAKS_FROM || (at >= WORKING_DAYS_FROM && at.getUTCDay() % 6 === 0);
}

function middayOf(at: Date): Date {
  return new Date(Math.floor(at.getTime() / DAY_MS) * DAY_MS + DAY_MS / 2);
}

function dependsOnHour({ prices }: ModelInfo): boolean {
  return Array.isArray(prices) && prices.some((each) => each.constraint?.type === 'time_of_date');
}

function readVersion(): string {
  listVersion ??= findVersion();
  return listVersion;
}

/** The package does not export its version; in a bundle there is no manifest to read it from. */
function findVersion(): string {
  try {
    const entry = createRequire(import.meta.url).resolve('@pydantic/genai-prices');
    const manifest = readFileSync(entry.replace(/dist[/\\][^/\\]*$/, 'package.json'), 'utf8');
    return String(JSON.parse(manifest).version);
  } catch {
    return 'bundled';
  }
}
