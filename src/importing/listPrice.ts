import { calcPrice } from '@pydantic/genai-prices';
import { LedgerError } from '../errors.js';
import { toMicrodollars } from '../money.js';

export interface ListPrice {
  provider: string;
  model: string;
  /** Cost of one request in microdollars, at the list price of its time. */
  priceRequest(request: { inputTokens: number; outputTokens: number; at: Date }): number;
}

/** Where an Azure trace's model is looked for when the name carries no provider. */
const DEFAULT_PROVIDERS = ['azure', 'openai'];

/**
 * The list price of a model, by name or as `provider/model`.
 * @throws LedgerError `invalid_request` when the price list does not know it
 */
export function findListPrice(name: string): ListPrice {
  for (const { providerId, modelId } of candidates(name)) {
    const options = providerId === null ? {} : { providerId };
    const found = calcPrice({ input_tokens: 1, output_tokens: 1 }, modelId, options);
    if (found === null) continue;
    const provider = found.provider.id;
    return {
      provider,
      model: modelId,
      priceRequest: ({ inputTokens, outputTokens, at }) => {
        const usage = { input_tokens: inputTokens, output_tokens: outputTokens };
        // By the request's own time: prices by date or hour must not depend on when it is imported.
        const price = calcPrice(usage, modelId, { providerId: provider, timestamp: at });
        if (price === null) throw unknownModel(name);
        return roundPrice(price.total_price);
      },
    };
  }
  throw unknownModel(name);
}

/**
 * List prices have at most ten decimals per token, so fifteen digits recover the decimal amount
 * from its binary sum (0.012119999999999999); it is then rounded once.
 */
function roundPrice(usd: number): number {
  return toMicrodollars(usd.toPrecision(15));
}

function candidates(name: string): { providerId: string | null; modelId: string }[] {
  const explicit = /^([a-z0-9_-]+)[/:](.+)$/i.exec(name);
  const asGiven = [
    ...DEFAULT_PROVIDERS.map((providerId) => ({ providerId, modelId: name })),
    { providerId: null, modelId: name },
  ];
  if (explicit?.[1] === undefined || explicit[2] === undefined) return asGiven;
  return [{ providerId: explicit[1], modelId: explicit[2] }, ...asGiven];
}

function unknownModel(name: string): LedgerError {
  return new LedgerError(
    'invalid_request',
    `no list price is known for the model ${JSON.stringify(name.slice(0, 100))}; name one that ` +
      '@pydantic/genai-prices knows with --model, like gpt-4o or anthropic/claude-sonnet-4-5',
    { details: { model: name.slice(0, 100) } },
  );
}
