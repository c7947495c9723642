import { formatDecimal, multiply, parseDecimal, ZERO } from './decimal.js';
import { KNOWN_MODIFIERS } from './knownModifiers.js';
import type { ModelPrice, UnitPrice } from './modelPrice.js';
import type { Modifier } from './modifiers.js';

export interface ModifiedPrices {
  prices: ModelPrice;
  /** `service_tier:scale`: what it costs is not known, and nothing was changed for it. */
  unknown: readonly string[];
}

/** A list's prices as the modifiers that the answer named leave them; they multiply each other. */
export function applyModifiers(
  list: { prices: ModelPrice; provider: string; modelId: string; name: string },
  modifiers: readonly Modifier[],
  at: Date,
): ModifiedPrices {
  let { prices } = list;
  const unknown: string[] = [];
  for (const { kind, value } of modifiers) {
    const known = KNOWN_MODIFIERS.find(
      (each) =>
        each.kind === kind &&
        each.providers.includes(list.provider) &&
        each.values.test(value) &&
        (each.models?.test(list.modelId) ?? true) &&
        (each.names?.test(list.name) ?? true) &&
        (each.from === undefined || at >= each.from),
    );
    if (known === undefined) {
      unknown.push(`${kind}:${value}`);
      continue;
    }
    const { factor = '1' } = known;
    prices = { ...(factor === '1' ? prices : scaleTokens(prices, factor)), ...known.prices };
  }
  return { prices, unknown };
}

/** Tools are charged by the call, whatever the tier. */
function scaleTokens(prices: ModelPrice, factor: string): ModelPrice {
  return Object.fromEntries(
    Object.entries(prices).map(([key, price]) => [
      key,
      price && key.endsWith('_mtok') ? scalePrice(price, factor) : price,
    ]),
  );
}

export function scalePrice(price: NonNullable<UnitPrice>, factor: string): UnitPrice {
  const times = (one: string | number) =>
    formatDecimal(multiply(parseDecimal(one) ?? ZERO, parseDecimal(factor) ?? ZERO));
  if (typeof price !== 'object') return times(price);
  const tiers = price.tiers.map((tier) => ({ ...tier, price: times(tier.price) }));
  return { base: times(price.base), tiers };
}
