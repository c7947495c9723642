import { asCount, asObject, asText, type JsonObject, objectsIn } from './json.js';

/**
 * Under which names providers report a count, in snake case (mergeUsage.ts). A name is looked for in
 * the usage itself and in each of its detail objects, so that one table serves every place. Where
 * several are there they say the same of one thing, and the largest counts.
 */
export const COUNT_NAMES = {
  prompt: [
    'prompt_tokens',
    'input_tokens',
    'prompt_token_count',
    'prompt_eval_count',
    // Bedrock.
    'input_token_count',
  ],
  /** Beside the prompt: what tools of the provider put into it (Gemini). */
  toolPrompt: ['tool_use_prompt_token_count', 'tool_use_prompt_tokens'],
  completion: [
    'completion_tokens',
    'output_tokens',
    'candidates_token_count',
    'eval_count',
    // Bedrock.
    'output_token_count',
  ],
  total: ['total_tokens', 'total_token_count'],
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
    // Bedrock.
    'cache_read_input_token_count',
  ],
  cacheWrite: [
    // OpenAI, OpenRouter.
    'cache_write_tokens',
    // Anthropic, and translators in front of it; in the details DashScope.
    'cache_creation_input_tokens',
    // LiteLLM.
    'cache_creation_tokens',
    'cached_creation_tokens',
    // LangChain; elsewhere an object, by lifetime.
    'cache_creation',
    'cache_write_input_tokens',
    'cached_write_tokens',
    'input_cache_write_tokens',
    // Bedrock.
    'cache_write_input_token_count',
  ],
  /** Written for longer than the usual five minutes. */
  cacheWrite1h: ['ephemeral_1h_input_tokens', 'claude_cache_creation_1_h_tokens'],
  cacheWrite5m: ['ephemeral_5m_input_tokens', 'claude_cache_creation_5_m_tokens'],
  reasoning: [
    'reasoning_tokens',
    'thinking_tokens',
    'thoughts_token_count',
    'reasoning_token_count',
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
  // Gemini.
  'candidates_tokens_details',
] as const;
/** What came from a cache: Gemini's in the usage itself, OpenAI's in the details of its prompt. */
const CACHE_DETAILS = ['cached_tokens_details', 'cache_tokens_details'] as const;
/** Within the usage or the details of its prompt. */
const SPLITS = ['cache_creation', 'cache_creation_token_details'] as const;

/** Members of an answer, or of a chunk of it, that hold its usage. */
const USAGE_MEMBERS = [
  'usage',
  'usage_metadata',
  'usageMetadata',
  'token_usage',
  'tokenUsage',
  'usage_info',
] as const;
/**
 * Members of an answer that may hold its usage where it has none itself: clouds and frameworks put
 * the answer into an envelope. Not `metadata`, which is the client's own.
 */
const ENVELOPES = ['result', 'response', 'data', 'response_metadata', 'message', 'meta'] as const;
/** Of a usage that holds no count itself: objects that do. Cohere bills the first of its two. */
const INNER_USAGE = ['billed_units', 'tokens'] as const;

/**
 * The usage of an answer, or of a chunk of it; null where there is none.
 * @param payload in the sender's terms
 */
export function findUsage(payload: JsonObject): JsonObject | null {
  const usage = firstAt(payload, USAGE_MEMBERS) ?? findInEnvelope(payload);
  if (usage !== null) {
    const inner = firstAt(usage, INNER_USAGE);
    return inner === null ? usage : { ...inner, ...usage };
  }
  // Ollama's own.
  const { prompt_eval_count, eval_count } = payload;
  const isOllama = asCount(eval_count) !== null;
  return isOllama ? { prompt_eval_count, eval_count } : null;
}

function findInEnvelope(payload: JsonObject): JsonObject | null {
  for (const name of ENVELOPES) {
    const envelope = asObject(payload[name]);
    const usage = envelope && firstAt(envelope, USAGE_MEMBERS);
    if (usage !== null) return usage;
  }
  // Groq.
  return asObject(asObject(payload.x_groq)?.usage);
}

function firstAt(place: JsonObject, names: readonly string[]): JsonObject | null {
  for (const name of names) {
    const object = asObject(place[name]);
    if (object !== null) return object;
  }
  return null;
}

function objectsAt(usage: JsonObject, names: readonly string[]): JsonObject[] {
  const objects: JsonObject[] = [];
  for (const name of names) {
    const object = asObject(usage[name]);
    if (object !== null) objects.push(object);
  }
  return objects;
}

export function promptDetails(usage: JsonObject): JsonObject[] {
  return detailsAt(usage, PROMPT_DETAILS);
}

export function completionDetails(usage: JsonObject): JsonObject[] {
  return detailsAt(usage, COMPLETION_DETAILS);
}

export function cacheDetails(usage: JsonObject): JsonObject[] {
  return [usage, ...promptDetails(usage)].flatMap((place) => detailsAt(place, CACHE_DETAILS));
}

function detailsAt(place: JsonObject, names: readonly string[]): JsonObject[] {
  return [...objectsAt(place, names), ...byModality(place, names)];
}

/** Gemini tells the parts in lists: `[{ "modality": "AUDIO", "tokenCount": 9 }]`. */
function byModality(usage: JsonObject, names: readonly string[]): JsonObject[] {
  const parts: JsonObject[] = [];
  for (const name of names) {
    for (const { modality, tokenCount, token_count } of objectsIn(usage[name])) {
      const part = `${(asText(modality) ?? '').slice(0, 16).toLowerCase()}_tokens`;
      parts.push({ [part]: tokenCount ?? token_count });
    }
  }
  return parts;
}

/** What was written to the cache, by lifetime. */
export function cacheSplits(usage: JsonObject): JsonObject[] {
  const splits = objectsAt(usage, SPLITS);
  for (const place of promptDetails(usage)) splits.push(...objectsAt(place, SPLITS));
  const listed = byLifetime(usage.cache_details);
  return listed === null ? splits : [...splits, listed];
}

/** Bedrock tells them in a list: `[{ "ttl": "1h", "inputTokens": 9 }]`. */
function byLifetime(details: unknown): JsonObject | null {
  let [short, long] = [0, 0];
  for (const { ttl, inputTokens, input_tokens } of objectsIn(details)) {
    const count = asCount(inputTokens ?? input_tokens) ?? 0;
    if (ttl === '1h') long += count;
    else short += count;
  }
  const [[shortName], [longName]] = [COUNT_NAMES.cacheWrite5m, COUNT_NAMES.cacheWrite1h];
  return short + long === 0 ? null : { [shortName]: short, [longName]: long };
}

/**
 * Tokens of the cache under a name that is in no table, where none that is told of them: better taken
 * by the sound of it than paid in full. A part of them (of one modality, of one lifetime) is no more
 * than all.
 */
const LIKE_CACHE = /cache.*token|token.*cache/;
const LIKE_WRITE = /writ|creat/;
/** Vercel's SDK: `noCacheTokens`. */
const NOT_OF_CACHE = /(^|_)(un|non?|not|without)_?cach|cacheable/;
const UNLIKE_CACHE = /miss|cost|price|discount|saved|saving|rate|ratio|percent|stor|ttl|max|min/;
const LIKE_LIFETIME = /_\d+_?(s|m|h)(_|$)/;

/** By the sound of their names; null where nothing sounds like it. */
export function countLikeCache(
  places: readonly JsonObject[],
  kind: 'read' | 'write',
): number | null {
  const names = new Set(places.flatMap((place) => Object.keys(place)));
  const alike = [...names].filter(
    (name) =>
      LIKE_CACHE.test(name) &&
      !NOT_OF_CACHE.test(name) &&
      !UNLIKE_CACHE.test(name) &&
      !LIKE_LIFETIME.test(name) &&
      LIKE_WRITE.test(name) === (kind === 'write'),
  );
  return countIn(places, alike);
}

/** The largest count under any of the names in any of the places; null where there is none. */
export function countIn(places: readonly JsonObject[], names: readonly string[]): number | null {
  let largest: number | null = null;
  for (const place of places) {
    for (const name of names) {
      const count = asCount(place[name]);
      if (count !== null && (largest === null || count > largest)) largest = count;
    }
  }
  return largest;
}
