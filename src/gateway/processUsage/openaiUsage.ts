import type { Draft } from './draft.js';
import { asCount, asObject, asText, decimalText, type JsonObject } from './json.js';

/**
 * The `usage` object of OpenAI's APIs and of those compatible with them, under the names of either.
 * The last one read is the one that counts. False when it holds no count at all.
 */
export function readOpenAiUsage(draft: Draft, usage: JsonObject, text: string): boolean {
  const prompt = asCount(usage.prompt_tokens) ?? asCount(usage.input_tokens);
  const completion = asCount(usage.completion_tokens) ?? asCount(usage.output_tokens);
  const reportsCost = typeof usage.cost === 'number' || typeof usage.cost === 'string';
  if (prompt === null && completion === null && !reportsCost) return false;
  const input = asObject(usage.prompt_tokens_details) ?? asObject(usage.input_tokens_details) ?? {};
  const output =
    asObject(usage.completion_tokens_details) ?? asObject(usage.output_tokens_details) ?? {};
  const reasoning = asCount(output.reasoning_tokens) ?? asCount(usage.reasoning_tokens);
  draft.inputTokens = prompt;
  draft.outputTokens = withReasoning(prompt, completion, reasoning, asCount(usage.total_tokens));
  draft.reasoningTokens = reasoning;
  draft.cacheHitTokens =
    asCount(input.cached_tokens) ??
    // DeepSeek; Moonshot.
    asCount(usage.prompt_cache_hit_tokens) ??
    asCount(usage.cached_tokens) ??
    0;
  draft.cacheWriteTokens =
    asCount(input.cache_write_tokens) ?? asCount(usage.cache_creation_input_tokens) ?? 0;
  draft.inputAudioTokens = asCount(input.audio_tokens) ?? 0;
  draft.inputImageTokens = asCount(input.image_tokens) ?? 0;
  draft.outputAudioTokens = asCount(output.audio_tokens) ?? 0;
  draft.outputImageTokens = asCount(output.image_tokens) ?? 0;
  readOpenRouterCost(draft, usage, text);
  return true;
}

/** xAI leaves reasoning out of the completion's tokens; the total tells. */
function withReasoning(
  prompt: number | null,
  completion: number | null,
  reasoning: number | null,
  total: number | null,
): number | null {
  if (prompt === null || completion === null || !reasoning) return completion;
  return total === prompt + completion + reasoning ? completion + reasoning : completion;
}

function readOpenRouterCost(draft: Draft, usage: JsonObject, text: string): void {
  draft.costUsd = decimalText(text, 'cost', usage.cost);
  draft.isByok = typeof usage.is_byok === 'boolean' ? usage.is_byok : null;
  const details = asObject(usage.cost_details);
  draft.upstreamCostUsd = decimalText(
    text,
    'upstream_inference_cost',
    details?.upstream_inference_cost,
  );
  const searches = asObject(usage.server_tool_use);
  draft.webSearches = asCount(searches?.web_search_requests) ?? draft.webSearches;
}

/** Fields that OpenAI's chat chunks, chat bodies and responses share. */
export function readOpenAiEnvelope(draft: Draft, payload: JsonObject): void {
  draft.messageId = asText(payload.id) ?? draft.messageId;
  draft.model = asText(payload.model) ?? draft.model;
  draft.serviceTier = asText(payload.service_tier) ?? draft.serviceTier;
  draft.inferenceProvider = asText(payload.provider) ?? draft.inferenceProvider;
}
