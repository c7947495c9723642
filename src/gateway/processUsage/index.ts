export { API_KINDS, BACKGROUND_INTENT, toWireFormat } from './apiKinds.js';
export { type EstimatedUsage, estimateUsage, type SeenWork } from './estimate.js';
export { READER_DEFECT } from './guarded.js';
export type { JsonObject } from './json.js';
export { MAX_MODEL_CHARACTERS } from './model.js';
export { MAX_ITEM_ID } from './namedItems.js';
export { PayloadReader } from './payloadReader.js';
export { parseBody, prepareRequest, tellsUsageUnasked } from './prepareRequest.js';
export { AnswerStart, createUsageReader } from './reader.js';
export { readCostHeader } from './reportedCost.js';
export {
  createSideGate,
  createSideReader,
  prepareSideRequest,
  type SideFormat,
} from './sideEndpoints.js';
export { isEventStream } from './sse.js';
export { createStreamGate } from './streamGate.js';
export type * from './types.js';
