/** Records the usage of an application that calls providers directly: `microdollar/sdk`. */
export type { RecordResult, UsageEvent, UsageMetadata } from '../../record/types.js';
export { createPricer, type Pricer, type PricerOptions } from '../prices/pricer.js';
export type { WireFormat } from '../processUsage/index.js';
export { type MeteredFetchOptions, meteredFetch } from './meteredFetch.js';
export type { RemoteLedger } from './remoteLedger.js';
export { type UsageOptions, UsageRecordingError, type UsageTarget } from './types.js';
export { usageMiddleware } from './usageMiddleware.js';
export { type WithUsageOptions, withUsage } from './withUsage.js';
