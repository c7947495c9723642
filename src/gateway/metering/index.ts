export { NO_ANSWER } from './chargedUsage.js';
export { isRefusedForItsTime, redate } from './redate.js';
export { type PriceCall, toUsageEvent } from './toUsageEvent.js';
export type * from './types.js';
