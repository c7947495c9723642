import type { PriceContext, Pricer } from '../prices/index.js';
import type { PreparedRequest, SideFormat } from '../processUsage/index.js';
import type { UsedByRequest } from './recentUsage.js';

/** Of a model without a price, USD per million tokens: those of the dearer half that are in use. */
const USUAL_MTOK = { input: 5, output: 25 } as const;
/** Output tokens of each choice, where none was seen lately. */
const FIRST_OUTPUT = 1_000;
/** Of an image in high quality. */
const IMAGE_OUTPUT = 6_500;

export interface ExpectedRequest {
  prepared: PreparedRequest;
  side: SideFormat | null;
  /** Of its payer and model; null = nothing lately. */
  recent: UsedByRequest | null;
}

/** Output tokens of all choices: as many as the most lately, within the request's own limit. */
export function expectedOutput({ prepared, side, recent }: ExpectedRequest): number {
  const { maxTokens, choices } = prepared;
  const limit = maxTokens === null ? Number.POSITIVE_INFINITY : maxTokens * choices;
  return Math.min(recent?.outputTokens ?? firstOutput(side) * choices, limit);
}

/**
 * What a request with so much output likely costs, microdollars, 1 or more; its prompt by its bytes.
 * What is charged by other things than tokens is taken to cost what it did lately.
 */
export function expectedAmount(
  pricer: Pricer,
  context: PriceContext,
  { prepared, side, recent }: ExpectedRequest,
  outputTokens: number,
): number {
  const { inputTokensEstimate: inputTokens } = prepared;
  const outputImageTokens = side === 'images' ? outputTokens : 0;
  const counts = { inputTokens, outputTokens, outputImageTokens };
  const price = pricer.price({ model: null, ...counts, usage: 'missing' }, context);
  const amount =
    'unpriced' in price
      ? inputTokens * USUAL_MTOK.input + outputTokens * USUAL_MTOK.output
      : price.costMicrodollars;
  const isOfText = side === null || side === 'completions';
  return Math.max(1, amount, isOfText ? 0 : (recent?.costMicrodollars ?? 0));
}

function firstOutput(side: SideFormat | null): number {
  return side === 'images' ? IMAGE_OUTPUT : FIRST_OUTPUT;
}
