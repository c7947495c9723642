import type { UsageDetails, UsageMetadata } from '../../record/types.js';
import { lessUnbilled } from './billedUsage.js';
import { toBasis } from './priceBasis.js';
import type { Price, PriceContext, PricedReading, Pricer, Unpriced } from './pricer.js';
import { reportedMicrodollars } from './reported.js';

/** A price as a usage row stores it. */
export interface PriceFields {
  /** Microdollars; null = no price is known: store 0 and `unpriced`. */
  cost: number | null;
  metadata: Pick<UsageMetadata, 'price_source' | 'price_version' | 'market_cost' | 'reported_cost'>;
  /** Why the cost is not all of it, or not sure. */
  doubts: readonly string[];
  /**
   * Where there is no price, or none of a part: what one will depend on, so that it comes out as it
   * would have now.
   */
  basis: UsageDetails | null;
}

/** No price that comes later changes them. */
const UNPRICEABLE: ReadonlySet<string> = new Set(['cost', 'reported_cost']);

/** Prices a reading for its row. */
export function priceFields(
  pricer: Pricer,
  reading: PricedReading,
  context: PriceContext,
): PriceFields {
  const billed = lessUnbilled(reading);
  const fields = toPriceFields(pricer.price(billed, context));
  const reported = reportedMicrodollars(reading);
  const isOpen = fields.cost === null || fields.doubts.some((doubt) => !UNPRICEABLE.has(doubt));
  return {
    ...fields,
    metadata: { ...fields.metadata, ...(reported === null ? {} : { reported_cost: reported }) },
    basis: isOpen ? toBasis(billed, context) : null,
  };
}

export function toPriceFields(price: Price | Unpriced): PriceFields {
  if ('unpriced' in price) return { cost: null, metadata: {}, doubts: [], basis: null };
  return {
    cost: price.costMicrodollars,
    metadata: {
      price_source: price.source,
      price_version: price.version,
      market_cost: price.marketCostMicrodollars,
    },
    doubts: price.doubts ?? [],
    basis: null,
  };
}
