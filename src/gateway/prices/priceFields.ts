import type { UsageMetadata } from '../../record/types.js';
import type { Price, Unpriced } from './pricer.js';

/** A price as a usage row stores it. */
export interface PriceFields {
  /** Microdollars; null = no price is known: store 0 and `unpriced`. */
  cost: number | null;
  metadata: Pick<UsageMetadata, 'price_source' | 'price_version' | 'market_cost'>;
}

export function toPriceFields(price: Price | Unpriced): PriceFields {
  if ('unpriced' in price) return { cost: null, metadata: {} };
  return {
    cost: price.costMicrodollars,
    metadata: {
      price_source: price.source,
      price_version: price.version,
      market_cost: price.marketCostMicrodollars,
    },
  };
}
