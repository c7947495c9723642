import type { PriceContext, PricedReading, Pricer } from '../prices/index.js';
import type { RequestBounds } from './requestBounds.js';

/** What an unknown model costs at most, USD per million tokens: the dearest that are listed. */
const DEAREST_MTOK = { input: 150, output: 600 } as const;

export interface AmountAtMost {
  /** Microdollars, 1 or more: a balance that is used up grants nothing. */
  amount: number;
  /** What changes the price, and nobody knows how: `service_tier:scale`. */
  doubts: readonly string[];
}

/**
 * What a request costs at most, with `outputTokens` for each choice. Of what its parts may be
 * priced as, the dearest counts.
 */
export function amountAtMost(
  pricer: Pricer,
  context: PriceContext,
  bounds: RequestBounds,
  outputTokens: number,
): AmountAtMost {
  const { inputTokens, serviceTier, speed, region } = bounds;
  const output = outputTokens * bounds.choices + bounds.predictedTokens;
  const base: PricedReading = { model: null, inputTokens, outputTokens: output };
  const named = { serviceTier, speed, region };
  const doubts = new Set<string>();
  let amount = 1;
  for (const variant of variantsOf(bounds, output)) {
    const price = pricer.price({ ...base, ...named, ...variant }, context);
    if ('unpriced' in price) return { amount: dearest(inputTokens, output), doubts: [] };
    amount = Math.max(amount, price.costMicrodollars);
    for (const doubt of price.doubts ?? []) doubts.add(doubt);
  }
  return { amount, doubts: [...doubts] };
}

/** The most output, of each choice, that `amount` microdollars pay for; null = less than `least`. */
export function outputFor(
  amount: number,
  amountOf: (outputTokens: number) => number,
  least: number,
  most: number,
): number | null {
  if (least > most || amountOf(least) > amount) return null;
  let [fits, exceeds] = [least, most + 1];
  while (exceeds - fits > 1) {
    const middle = Math.floor((fits + exceeds) / 2);
    if (amountOf(middle) <= amount) fits = middle;
    else exceeds = middle;
  }
  return fits;
}

function variantsOf(bounds: RequestBounds, output: number): Partial<PricedReading>[] {
  const { inputTokens, inputAudioTokens, inputImageTokens, cacheWrites, speaks } = bounds;
  const variants: Partial<PricedReading>[] = [{}];
  if (inputAudioTokens > 0) variants.push({ inputAudioTokens });
  if (inputImageTokens > 0) variants.push({ inputAudioTokens, inputImageTokens });
  if (cacheWrites !== 'none') {
    const isHour = cacheWrites === 'hour';
    variants.push({
      cacheWriteTokens: inputTokens,
      ...(isHour ? { cacheWrite1hTokens: inputTokens } : {}),
    });
  }
  if (!speaks) return variants;
  return [...variants, ...variants.map((each) => ({ ...each, outputAudioTokens: output }))];
}

/** A microdollar a token is a dollar a million. */
function dearest(inputTokens: number, outputTokens: number): number {
  return inputTokens * DEAREST_MTOK.input + outputTokens * DEAREST_MTOK.output;
}
