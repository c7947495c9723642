import { AUDIO_TOKENS_PER_SECOND } from '../processUsage/estimateInput.js';
import { add } from './decimal.js';
import { type BilledUsage, type ModelPrice, priceUsage, type UsagePrice } from './modelPrice.js';
import type { PricedReading } from './pricer.js';

/**
 * With the models that an advisor or a tool used. An advisor without a price leaves the whole without
 * one; a tool is flagged.
 */
export function addOtherModels(
  base: UsagePrice,
  reading: PricedReading,
  find: (model: string, tool: string | null) => ModelPrice | null,
): UsagePrice | null {
  let { usd } = base;
  const unpriced = [...base.unpriced];
  for (const { model, tokens, tool } of reading.otherModels ?? []) {
    const prices = find(model, tool ?? null);
    const price = prices && priceUsage({ ...NOTHING, ...tokens }, prices);
    if (price) usd = add(usd, price.usd);
    else if (tool === undefined) return null;
    else unpriced.push(`charge:${tool}`);
  }
  return { usd, unpriced };
}

const NOTHING: BilledUsage = {
  inputTokens: 0,
  outputTokens: 0,
  cacheHitTokens: 0,
  cacheAudioTokens: 0,
  cacheImageTokens: 0,
  cacheWriteTokens: 0,
  cacheWrite1hTokens: 0,
  inputAudioTokens: 0,
  inputImageTokens: 0,
  outputAudioTokens: 0,
  outputImageTokens: 0,
  reasoningTokens: 0,
  citationTokens: 0,
  charges: {},
};

/** What a reading is billed for, at the prices of its own model. */
export function toBilled(reading: PricedReading, prices: ModelPrice = {}): BilledUsage {
  const billed = countBilled(reading);
  const isByToken = prices.input_mtok !== undefined || prices.output_mtok !== undefined;
  if (isByToken || prices.audio_seconds_kcount === undefined) return billed;
  // Where only seconds are paid, tokens told beside them are not.
  if (billed.charges.audio_seconds !== undefined) return { ...NOTHING, charges: billed.charges };
  if (reading.usage !== 'missing') return billed;
  // Of a transcript without usage (plain text, subtitles) the recording's size alone is known.
  const seconds = Math.ceil(billed.inputTokens / AUDIO_TOKENS_PER_SECOND);
  return { ...NOTHING, charges: { audio_seconds: seconds, ...billed.charges } };
}

function countBilled(reading: PricedReading): BilledUsage {
  const { webSearches = 0, fileSearches = 0 } = reading;
  const counts = Object.keys(NOTHING).filter((key) => key !== 'charges') as Count[];
  const billed: BilledUsage = { ...NOTHING };
  for (const part of counts) billed[part] = reading[part] ?? 0;
  billed.charges = {
    ...reading.charges,
    ...(webSearches === 0 ? {} : { web_searches: webSearches }),
    // As the list calls them.
    ...(fileSearches === 0 ? {} : { storage_searches: fileSearches }),
  };
  return billed;
}

/** Its own tokens are none where they are not billed, whatever the settings. */
export function lessUnbilled(reading: PricedReading): PricedReading {
  if (!reading.isUnbilled) return reading;
  return { ...reading, ...NOTHING, charges: reading.charges ?? {} };
}

type Count = Exclude<keyof BilledUsage, 'charges'>;
