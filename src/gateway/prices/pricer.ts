import type { UsageReading, WireFormat } from '../processUsage/types.js';
import { OwnPricesFile } from './ownPricesFile.js';
import { priceReading } from './priceReading.js';

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
  /** Microdollars, rounded once, half away from zero; at most 10^12. */
  costMicrodollars: number;
  /** Without the operator's own prices, multipliers and margins; null = not known. */
  marketCostMicrodollars: number | null;
  source: 'own' | 'upstream' | 'genai-prices';
  /** Of the source; with the multipliers and margins, if any. */
  version: string;
  /**
   * Why the cost is not all of it, or not sure: `charge:code_executions` (used, and has no price),
   * `service_tier:scale` (changes the price, nobody knows how), `cost` (out of range).
   */
  doubts?: readonly string[];
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
 * reports, else the list price. Never zero for want of a price.
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
