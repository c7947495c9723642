import { asCount, type JsonObject, objectsIn } from './json.js';

/**
 * Under which names providers report a count. A name is looked for in the usage itself and in each
 * of its detail objects, so that one table serves every place. Where several are there they say the
 * same of one thing, and the largest counts.
 */
export const COUNT_NAMES = {
  prompt: ['prompt_tokens', 'input_tokens', 'prompt_token_count', 'inputTokens'],
  completion: ['completion_tokens', 'output_tokens', 'candidates_token_count', 'outputTokens'],
  total: ['total_tokens', 'total_token_count', 'totalTokens'],
  cacheRead: [
    // OpenAI and most others; at the top level Moonshot.
    'cached_tokens',
    // DeepSeek.
    'prompt_cache_hit_tokens',
    // Anthropic, and translators in front of it.
    'cache_read_input_tokens',
    'cache_read_tokens',
    'cached_read_tokens',
    'cache_hit_tokens',
    'cache_read',
    // Codex, Vercel's SDK.
    'cached_input_tokens',
    'input_cached_tokens',
    // Mistral.
    'num_cached_tokens',
    // xAI.
    'cached_prompt_text_tokens',
    // Gemini.
    'cached_content_token_count',
    'cachedContentTokenCount',
    // Bedrock.
    'cacheReadInputTokens',
    'cacheReadInputTokenCount',
  ],
  cacheWrite: [
    // OpenAI, OpenRouter.
    'cache_write_tokens',
    // Anthropic, and translators in front of it; in the details DashScope.
    'cache_creation_input_tokens',
    // LiteLLM.
    'cache_creation_tokens',
    'cached_creation_tokens',
    'cache_write_input_tokens',
    'cached_write_tokens',
    'input_cache_write_tokens',
    // Bedrock.
    'cacheWriteInputTokens',
    'cacheWriteInputTokenCount',
  ],
  /** Written for longer than the usual five minutes. */
  cacheWrite1h: ['ephemeral_1h_input_tokens', 'claude_cache_creation_1_h_tokens'],
  cacheWrite5m: ['ephemeral_5m_input_tokens', 'claude_cache_creation_5_m_tokens'],
  reasoning: [
    'reasoning_tokens',
    'thinking_tokens',
    'thoughts_token_count',
    'thoughtsTokenCount',
    'reasoning_token_count',
    'reasoningTokens',
  ],
} as const satisfies Record<string, readonly string[]>;

const PROMPT_DETAILS = [
  'prompt_tokens_details',
  'input_tokens_details',
  'prompt_token_details',
  'input_token_details',
] as const;
const COMPLETION_DETAILS = [
  'completion_tokens_details',
  'output_tokens_details',
  'completion_token_details',
  'output_token_details',
] as const;
/** Within the usage or the details of its prompt. */
const SPLITS = ['cache_creation', 'cache_creation_token_details'] as const;

function objectsAt(usage: JsonObject, names: readonly string[]): JsonObject[] {
  return objectsIn(names.map((name) => usage[name]));
}

export function promptDetails(usage: JsonObject): JsonObject[] {
  return objectsAt(usage, PROMPT_DETAILS);
}

export function completionDetails(usage: JsonObject): JsonObject[] {
  return objectsAt(usage, COMPLETION_DETAILS);
}

/** What was written to the cache, by lifetime. */
export function cacheSplits(usage: JsonObject): JsonObject[] {
  return [usage, ...promptDetails(usage)].flatMap((place) => objectsAt(place, SPLITS));
}

/** The largest count under any of the names in any of the places; null where there is none. */
export function countIn(places: readonly JsonObject[], names: readonly string[]): number | null {
  const counts = places.flatMap((place) => names.flatMap((name) => asCount(place[name]) ?? []));
  return counts.length === 0 ? null : Math.max(...counts);
}
