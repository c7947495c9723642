import type { JsonObject } from './json.js';
import type { UsageReading } from './types.js';

/** A reading in the making. */
export type Draft = { -readonly [Field in keyof UsageReading]: UsageReading[Field] };

/** Reads what one wire format says, event by event or as a whole body. */
export interface FormatReader {
  readonly draft: Draft;
  /** Text, reasoning or a tool call has come. */
  sawFirstToken: boolean;
  /** One event of a stream; `text` is its payload as sent. */
  event(payload: JsonObject, text: string): void;
  /** A payload that is no JSON object; true where the format knows it. */
  plain?(text: string): boolean;
  /** A whole body. */
  body(payload: JsonObject, text: string): void;
}

export function emptyDraft(): Draft {
  return {
    inputTokens: null,
    outputTokens: null,
    reasoningTokens: null,
    cacheHitTokens: 0,
    cacheWriteTokens: 0,
    cacheWrite1hTokens: 0,
    inputAudioTokens: 0,
    inputImageTokens: 0,
    outputAudioTokens: 0,
    outputImageTokens: 0,
    usage: 'missing',
    otherModels: [],
    webSearches: 0,
    fileSearches: 0,
    costUsd: null,
    upstreamCostUsd: null,
    isByok: null,
    serviceTier: null,
    model: null,
    finishReason: null,
    messageId: null,
    error: null,
    complete: false,
    malformedChunks: 0,
    inferenceProvider: null,
    outputBytes: 0,
  };
}

const INT4_MAX = 2_147_483_647;
const INPUT_PARTS = ['inputAudioTokens', 'inputImageTokens'] as const;
const OUTPUT_PARTS = ['outputAudioTokens', 'outputImageTokens', 'reasoningTokens'] as const;

/** Parts never exceed what they are parts of, whatever the provider said. */
export function toReading(draft: Draft): UsageReading {
  const input = draft.inputTokens ?? 0;
  const cacheHitTokens = Math.min(draft.cacheHitTokens, input);
  const cacheWriteTokens = Math.min(draft.cacheWriteTokens, input - cacheHitTokens);
  const reading: Draft = {
    ...draft,
    cacheHitTokens,
    cacheWriteTokens,
    cacheWrite1hTokens: Math.min(draft.cacheWrite1hTokens, cacheWriteTokens),
  };
  capParts(reading, INPUT_PARTS, input - cacheHitTokens - cacheWriteTokens);
  if (draft.outputTokens !== null) capParts(reading, OUTPUT_PARTS, draft.outputTokens);
  // Stored as a PostgreSQL integer.
  if (reading.reasoningTokens !== null) {
    reading.reasoningTokens = Math.min(reading.reasoningTokens, INT4_MAX);
  }
  return reading;
}

function capParts(
  reading: Draft,
  parts: readonly (typeof INPUT_PARTS | typeof OUTPUT_PARTS)[number][],
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
