export { MAX_WORK_MS, NO_ANSWER } from './chargedUsage.js';
export { isErrorStatus } from './errorStatus.js';
export { isRefusedForItsTime, redate } from './redate.js';
export { type PriceCall, toUsageEvent } from './toUsageEvent.js';
export type * from './types.js';
