import type { TokenCounts } from '../processUsage/types.js';
import { add, type Decimal, parseDecimal, priceOf, ZERO } from './decimal.js';

/** Everything that one model is paid for in one answer. */
export interface BilledUsage extends TokenCounts {
  reasoningTokens: number;
  citationTokens: number;
  /** By the name of their price: `web_searches`, `storage_searches`, `code_sessions`, ... */
  charges: Readonly<Record<string, number>>;
}

/** USD. Tiers: past `start` input tokens the whole request is at `price`. */
export type UnitPrice =
  | string
  | number
  | { base: string | number; tiers: readonly { start: number; price: string | number }[] };

/** Prices under the names of genai-prices: `_mtok` per million tokens, `_kcount` per thousand. */
export type ModelPrice = Readonly<Record<string, UnitPrice | undefined>>;

export const TOKEN_PRICE_KEYS = [
  'input_mtok',
  'cache_read_mtok',
  'cache_audio_read_mtok',
  'cache_image_read_mtok',
  'cache_write_mtok',
  'cache_write_5m_mtok',
  'cache_write_1h_mtok',
  'input_audio_mtok',
  'input_image_mtok',
  'output_mtok',
  'output_audio_mtok',
  'output_image_mtok',
  'output_reasoning_mtok',
  'output_citation_mtok',
] as const;
type TokenPriceKey = (typeof TOKEN_PRICE_KEYS)[number];

export interface UsagePrice {
  usd: Decimal;
  /** What was used and has no price: `charge:code_executions`. It is not in `usd`. */
  unpriced: readonly string[];
}

/**
 * USD of an answer at a model's prices, exactly. A part that has no price of its own (cache reads,
 * audio, ...) is paid as what it is a part of. Null when tokens were used that have no price at
 * all: that is not zero.
 */
export function priceUsage(usage: BilledUsage, prices: ModelPrice): UsagePrice | null {
  const bill = new Bill(prices, usage.inputTokens);
  // Parts are never more than what is left of the whole, whoever made the counts.
  const { cacheWriteTokens: writes, cacheWrite1hTokens } = usage;
  let input = usage.inputTokens;
  const hour = bill.charge('cache_write_1h_mtok', Math.min(cacheWrite1hTokens, writes, input));
  const short = Math.min(writes - cacheWrite1hTokens, input - hour);
  const minutes = bill.charge('cache_write_5m_mtok', Math.max(0, short));
  input -= hour + minutes;
  input -= bill.charge('cache_write_mtok', Math.min(Math.max(0, writes - hour - minutes), input));
  const cacheAudio = Math.min(usage.cacheAudioTokens, usage.cacheHitTokens);
  const cacheImage = Math.min(usage.cacheImageTokens, usage.cacheHitTokens - cacheAudio);
  for (const [count, ...keys] of [
    [cacheAudio, 'cache_audio_read_mtok', 'cache_read_mtok', 'input_audio_mtok'],
    [cacheImage, 'cache_image_read_mtok', 'cache_read_mtok', 'input_image_mtok'],
    [usage.cacheHitTokens - cacheAudio - cacheImage, 'cache_read_mtok'],
    [usage.inputAudioTokens, 'input_audio_mtok'],
    [usage.inputImageTokens, 'input_image_mtok'],
  ] as const) {
    input -= bill.chargeFirst(keys, Math.min(count, input));
  }
  let output = usage.outputTokens;
  for (const [key, count] of [
    ['output_audio_mtok', usage.outputAudioTokens],
    ['output_image_mtok', usage.outputImageTokens],
    ['output_reasoning_mtok', usage.reasoningTokens],
  ] as const) {
    output -= bill.charge(key, Math.min(count, output));
  }
  if (bill.charge('input_mtok', input) < input) return null;
  if (bill.charge('output_mtok', output) < output) return null;
  const unpriced: string[] = [];
  const { citationTokens } = usage;
  if (bill.charge('output_citation_mtok', citationTokens) < citationTokens) {
    unpriced.push('charge:citation_tokens');
  }
  for (const [name, count] of Object.entries(usage.charges)) {
    if (bill.charge(`${name}_kcount`, count) < count) unpriced.push(`charge:${name}`);
  }
  bill.charge('requests_kcount', 1);
  return { usd: bill.totalUsd, unpriced };
}

class Bill {
  readonly #prices: ModelPrice;
  readonly #inputTokens: number;
  totalUsd: Decimal = ZERO;

  constructor(prices: ModelPrice, inputTokens: number) {
    this.#prices = prices;
    this.#inputTokens = inputTokens;
  }

  /** How many of them had a price. */
  charge(key: TokenPriceKey | `${string}_kcount`, count: number): number {
    const price = this.#priceOf(key);
    if (price === null) return 0;
    this.totalUsd = add(this.totalUsd, priceOf(count, price, key.endsWith('_mtok') ? 6 : 3));
    return count;
  }

  /** At the first of the prices that there is. */
  chargeFirst(keys: readonly TokenPriceKey[], count: number): number {
    const key = keys.find((each) => this.#priceOf(each) !== null);
    return key === undefined ? 0 : this.charge(key, count);
  }

  #priceOf(key: string): Decimal | null {
    const price = Object.hasOwn(this.#prices, key) ? this.#prices[key] : null;
    if (price === undefined || price === null) return null;
    if (typeof price !== 'object') return parseDecimal(price);
    const tiers = [...price.tiers].sort((one, other) => one.start - other.start);
    const reached = tiers.filter((tier) => this.#inputTokens > tier.start).at(-1);
    return parseDecimal(reached?.price ?? price.base);
  }
}
