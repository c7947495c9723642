import { BYTES_PER_TOKEN } from './estimateInput.js';
import type { JsonObject } from './json.js';
import type { UsageReading } from './types.js';

type Changeable = { -readonly [Field in keyof UsageReading]: UsageReading[Field] };

/** A reading in the making. */
export type Draft = Omit<Changeable, 'charges' | 'doubts' | 'itemIds'> & {
  /** All usage that was reported, in the sender's own terms (mergeUsage.ts). */
  reported: JsonObject;
  /** Of `outputBytes`, those that the usage must tell of: not the calls of a response. */
  textBytes: number;
  /** Of `textBytes`, what images are taken for. */
  imageBytes: number;
  /** The cost is a 0 that stands beside no counts, or zeros, as some send for what they do not count. */
  isCostOfNothing: boolean;
  charges: Record<string, number>;
  doubts: Set<string>;
  itemIds: Set<string>;
};

/** Reads what one wire format says, event by event or as a whole body. */
export interface FormatReader {
  readonly draft: Draft;
  /** Text, reasoning or a tool call has come. */
  readonly sawFirstToken: boolean;
  /** One event of a stream; `text` is its payload as sent. */
  event(payload: JsonObject, text: string): void;
  /** A payload that is no JSON object; true where the format knows it. */
  plain?(text: string): boolean;
  /** A whole body. */
  body(payload: JsonObject, text: string): void;
}

export function emptyDraft(): Draft {
  return {
    reported: {},
    textBytes: 0,
    imageBytes: 0,
    isCostOfNothing: false,
    inputTokens: null,
    outputTokens: null,
    totalTokens: null,
    reasoningTokens: null,
    cacheHitTokens: 0,
    cacheAudioTokens: 0,
    cacheImageTokens: 0,
    cacheWriteTokens: 0,
    cacheWrite1hTokens: 0,
    inputAudioTokens: 0,
    inputImageTokens: 0,
    outputAudioTokens: 0,
    outputImageTokens: 0,
    citationTokens: 0,
    usage: 'missing',
    otherModels: [],
    webSearches: 0,
    fileSearches: 0,
    charges: {},
    doubts: new Set(),
    costUsd: null,
    upstreamCostUsd: null,
    isByok: null,
    serviceTier: null,
    speed: null,
    region: null,
    searchContext: null,
    model: null,
    finishReason: null,
    messageId: null,
    itemIds: new Set(),
    error: null,
    complete: false,
    endedChoices: null,
    malformedChunks: 0,
    inferenceProvider: null,
    outputBytes: 0,
    reasoningBytes: 0,
  };
}

export function addOutput(
  draft: Draft,
  bytes: { text?: number; reasoning?: number; call?: number },
): number {
  const { text = 0, reasoning = 0, call = 0 } = bytes;
  draft.textBytes += text + reasoning;
  draft.reasoningBytes += reasoning;
  draft.outputBytes += text + reasoning + call;
  return text + reasoning + call;
}

/** Calls of one kind so far; of several reports of them the largest. */
export function raiseCharge(draft: Draft, name: string, count: number): void {
  if (count === 0) return;
  if (name === 'web_searches') draft.webSearches = Math.max(draft.webSearches, count);
  else if (name === 'file_searches') draft.fileSearches = Math.max(draft.fileSearches, count);
  else draft.charges[name] = Math.max(draft.charges[name] ?? 0, count);
}

const INT4_MAX = 2_147_483_647;
const CACHE_PARTS = ['cacheAudioTokens', 'cacheImageTokens'] as const;
const INPUT_PARTS = ['inputAudioTokens', 'inputImageTokens'] as const;
const OUTPUT_PARTS = ['outputAudioTokens', 'outputImageTokens', 'reasoningTokens'] as const;

/**
 * Parts never exceed what they are parts of, whatever the provider said. Usage of nothing but zeros
 * beside an answer that has text is no usage.
 */
export function toReading(draft: Draft): UsageReading {
  const { reported: _, textBytes: __, imageBytes, isCostOfNothing, ...said } = draft;
  const { inputTokens, outputTokens, totalTokens } = draft;
  const tokens = (inputTokens ?? 0) + (outputTokens ?? 0) + (totalTokens ?? 0);
  const isCounted = tokens > 0 || Object.keys(draft.charges).length > 0;
  const isPaidElsewhere = draft.isByok === true && draft.upstreamCostUsd !== null;
  if (isCostOfNothing && isCounted && !isPaidElsewhere) said.costUsd = null;
  const input = draft.inputTokens ?? 0;
  const cacheHitTokens = Math.min(draft.cacheHitTokens, input);
  const cacheWriteTokens = Math.min(draft.cacheWriteTokens, input - cacheHitTokens);
  const reading: Changeable = {
    ...said,
    ...withoutZeros(draft),
    charges: { ...draft.charges },
    // What was not read may have told of more.
    doubts: [...draft.doubts, ...(draft.failure === undefined ? [] : ['unread'])],
    itemIds: [...draft.itemIds],
    cacheHitTokens,
    cacheWriteTokens,
    cacheWrite1hTokens: Math.min(draft.cacheWrite1hTokens, cacheWriteTokens),
  };
  capParts(reading, CACHE_PARTS, cacheHitTokens);
  capParts(reading, INPUT_PARTS, input - cacheHitTokens - cacheWriteTokens);
  if (reading.outputTokens !== null) capParts(reading, OUTPUT_PARTS, reading.outputTokens);
  else if (imageBytes > 0) reading.outputImageTokens = Math.ceil(imageBytes / BYTES_PER_TOKEN);
  // Stored as a PostgreSQL integer.
  if (reading.reasoningTokens !== null) {
    reading.reasoningTokens = Math.min(reading.reasoningTokens, INT4_MAX);
  }
  return reading;
}

type Zeros = Partial<
  Pick<Draft, 'usage' | 'inputTokens' | 'outputTokens' | 'costUsd' | 'reasoningTokens'>
>;

/**
 * A prompt, or an answer, of no tokens where there was text was not counted. Calls of tools in a
 * response do not tell: OpenAI passes on a program's calls and counts nothing.
 */
function withoutZeros(draft: Draft): Zeros {
  const { inputTokens, outputTokens, totalTokens, costUsd, textBytes } = draft;
  // The text of a model that declined is not the one's that answered, and did so too.
  if (draft.isUnbilled) return {};
  if (draft.usage === 'missing' || textBytes === 0 || (totalTokens ?? 0) > 0) return {};
  const hasInput = (inputTokens ?? 0) > 0;
  const hasOutput = (outputTokens ?? 0) > 0;
  if (hasInput && hasOutput) return {};
  if (!hasInput && !hasOutput) {
    const isCost = costUsd !== null && Number(costUsd) > 0;
    return {
      usage: 'missing',
      inputTokens: null,
      outputTokens: null,
      reasoningTokens: null,
      costUsd: isCost ? costUsd : null,
    };
  }
  return hasInput ? { outputTokens: null } : { inputTokens: null };
}

function capParts(
  reading: Changeable,
  parts: readonly (typeof CACHE_PARTS | typeof INPUT_PARTS | typeof OUTPUT_PARTS)[number][],
  total: number,
): void {
  let left = total;
  for (const part of parts) {
    const count = reading[part];
    if (count === null) continue;
    reading[part] = Math.min(count, left);
    if (part !== 'reasoningTokens') left -= reading[part] ?? 0;
  }
}
