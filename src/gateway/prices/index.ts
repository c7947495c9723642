export { API_KINDS, BACKGROUND_INTENT, toWireFormat } from '../processUsage/apiKinds.js';
export type { LateKind, UnpricedPosition } from './findUnpriced.sql.js';
export { fromBasis, type PriceBasis } from './priceBasis.js';
export { type PriceFields, priceFields, toPriceFields } from './priceFields.js';
export {
  ASSUMED_OUTPUT_TOKENS,
  assumedOutputTokens,
  type IntentEstimate,
  priceIntent,
} from './priceIntent.js';
export {
  createPricer,
  type Price,
  type PriceContext,
  type PricedReading,
  type Pricer,
  type PricerOptions,
  type Unpriced,
} from './pricer.js';
export {
  type PriceUnpricedOptions,
  type PriceUnpricedReport,
  priceUnpriced,
} from './priceUnpriced.js';
export { reportedMicrodollars } from './reported.js';
export { latePriceId, repriceUnpriced, type UnpricedUsage } from './repriceUnpriced.js';
