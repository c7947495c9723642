import { BYTES_PER_TOKEN } from './estimateInput.js';
import type { PreparedRequest, UsageReading } from './types.js';

/** Tokens that a model generates in a second of which nothing is seen: the faster half of them. */
const TOKENS_PER_SECOND = 100;
/** Of an answer that may have any length; past it an estimate by time is no estimate. */
const MAX_HIDDEN_TOKENS = 128_000;

export interface EstimatedUsage {
  reading: UsageReading & { inputTokens: number; outputTokens: number };
  /** For `metadata.estimated`; null when the answer said everything. */
  estimated: 'missing_usage' | 'partial_usage' | null;
}

/** How long the provider worked. */
export interface SeenWork {
  /** Unseen: from the call to the first text, or to the end where none came, ms. */
  silentMs: number;
}

/**
 * Fills in what the answer did not say, and says so: the prompt from the request, the output from
 * the bytes that came. What was reported before an answer broke off is a lower bound. An output
 * that is not known is never 0: where a model thinks unseen, or an answer comes only as a whole,
 * the time that it took tells.
 */
export function estimateUsage(
  prepared: Pick<PreparedRequest, 'inputTokensEstimate'> & Partial<PreparedRequest>,
  reading: UsageReading,
  work: SeenWork | null = null,
): EstimatedUsage {
  const { inputTokens, outputTokens, totalTokens } = reading;
  const isFinal = reading.usage === 'final' && !isCutShort(prepared, reading);
  if (isFinal && inputTokens !== null && outputTokens !== null) {
    return { reading: { ...reading, inputTokens, outputTokens }, estimated: null };
  }
  const input = inputTokens ?? Math.min(prepared.inputTokensEstimate, totalTokens ?? Infinity);
  const estimated = reading.usage === 'missing' ? 'missing_usage' : 'partial_usage';
  const output = isFinal
    ? (outputTokens ?? restOf(totalTokens, input) ?? estimateOutput(prepared, reading, null))
    : Math.max(outputTokens ?? 0, estimateOutput(prepared, reading, work));
  const drawn = prepared.draws ? { outputImageTokens: output } : {};
  return { reading: { ...reading, ...drawn, inputTokens: input, outputTokens: output }, estimated };
}

function restOf(total: number | null, input: number): number | null {
  return total === null ? null : Math.max(0, total - input);
}

/** Fewer choices ended than were asked for, and the answer did not say that it is over. */
function isCutShort({ choices = 1 }: Partial<PreparedRequest>, reading: UsageReading): boolean {
  return reading.endedChoices !== null && reading.endedChoices < choices;
}

function estimateOutput(
  prepared: Partial<PreparedRequest>,
  { outputBytes, reasoningBytes }: UsageReading,
  work: SeenWork | null,
): number {
  const seen = Math.ceil(outputBytes / BYTES_PER_TOKEN);
  const { streamed = true, reasons = false, maxTokens = null, choices = 1 } = prepared;
  if (choices === 0) return seen;
  const isHidden = streamed ? reasons && reasoningBytes === 0 : outputBytes === 0;
  if (!isHidden || work === null) return Math.max(1, seen);
  const limit = maxTokens === null ? MAX_HIDDEN_TOKENS : maxTokens * choices;
  const hidden = Math.ceil((Math.max(0, work.silentMs) / 1_000) * TOKENS_PER_SECOND);
  return Math.max(1, seen, Math.min(seen + hidden, limit));
}
