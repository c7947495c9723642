export { API_KINDS, toWireFormat } from './apiKinds.js';
export { type EstimatedUsage, estimateUsage, type SeenWork } from './estimate.js';
export { PayloadReader } from './payloadReader.js';
export { prepareRequest } from './prepareRequest.js';
export { createUsageReader } from './reader.js';
export { createStreamGate } from './streamGate.js';
export type * from './types.js';
