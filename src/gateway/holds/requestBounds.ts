import type { PreparedRequest, SideFormat, WireFormat } from '../processUsage/index.js';
import { asCount, asObject, asText, type JsonObject, objectsIn } from '../processUsage/json.js';
import { membersOf } from '../processUsage/jsonMembers.js';
import { boundContent } from './contentBounds.js';
import { limitsOf } from './modelLimits.js';

/** The most that a request can use. */
export interface RequestBounds {
  inputTokens: number;
  /** Parts of the prompt. */
  inputAudioTokens: number;
  inputImageTokens: number;
  /** The request's own limit of output tokens, of each choice; null = none. */
  outputLimit: number | null;
  /** Members that say so, as the client has them; where it has none, the one of its API. */
  limitMembers: readonly { name: string; value: number | null; isGiven: boolean }[];
  /** Less of an output is refused by the provider, or of no use. */
  leastOutput: number;
  choices: number;
  /** Beside the limit: text that was predicted, and is not in the answer, is paid for. */
  predictedTokens: number;
  /** The answer may be speech. */
  speaks: boolean;
  /** How the prompt may be kept by the provider, which may cost more than reading it. */
  cacheWrites: 'none' | 'minutes' | 'hour';
  serviceTier: string | null;
  speed: string | null;
  region: string | null;
}

/** What of a request has no bound. */
export interface Unbounded {
  /** The member of the body; null = the endpoint. */
  param: string | null;
  why: string;
}

export interface BoundedRequest {
  format: WireFormat;
  path: string;
  side: SideFormat | null;
  body: Buffer;
  /** What the body says, where somebody has parsed it. */
  json?: JsonObject | null;
  prepared: PreparedRequest;
}

const LIMIT_MEMBERS = {
  'openai-chat': ['max_completion_tokens', 'max_tokens'],
  'openai-responses': ['max_output_tokens'],
  'anthropic-messages': ['max_tokens'],
} as const satisfies Record<WireFormat, readonly string[]>;
/** Models that take only `max_completion_tokens`. */
const COMPLETION_LIMITED = /(^|\/)(o\d|gpt-[5-9])/;

/** Beside its texts: what tools are explained with, and what surrounds messages. */
const HIDDEN_TOKENS = 1_500;
/** Large, and in full detail. */
const IMAGE_TOKENS = 12_000;
/** They count an image as many times more. */
const DEAR_IMAGES = /4o-mini/;
const DEAR_IMAGE_TOKENS = 50_000;
/** As few as the Responses API takes. */
const LEAST_OUTPUT = 16;

/** What the provider does while it answers, by the member that asks for it. */
const AT_THE_PROVIDER: Readonly<Record<string, string>> = {
  web_search_options: 'the provider searches',
  search_parameters: 'the provider searches',
  plugins: 'the provider runs plugins',
  mcp_servers: 'the provider calls servers',
  container: 'the provider runs code',
  models: 'the provider may choose another model',
  fallbacks: 'the provider may ask another model as well',
  context_management: 'the provider may read the prompt several times',
};
/** What the provider keeps, and puts before the prompt. */
const KEPT_THERE = ['previous_response_id', 'conversation'] as const;
/** Tools that the client runs; those without a type too. */
const CLIENT_TOOLS =
  /^(function|custom|local_shell|apply_patch|computer_use_preview|(bash|text_editor|computer|memory)_\d+)$/;
const SEARCHING_MODELS = /search|sonar|deep-research|:online|(^|\/)auto$/;

/** The most that a request can use, or what of it has no bound. */
export function boundRequest(request: BoundedRequest): RequestBounds | Unbounded {
  const { path, side } = request;
  const isText = side === null || side === 'completions' || side === 'embeddings';
  if (!isText || path.endsWith('/compact')) {
    return { param: null, why: `${path} has no limit of what it may cost` };
  }
  const json = request.json ?? asObject(JSON.parse(request.body.toString())) ?? {};
  return findRepeated(request.body) ?? findUnbounded(json) ?? boundJson(request, json);
}

/** Which of the two a provider takes nobody knows. */
function findRepeated(body: Buffer): Unbounded | null {
  const seen = new Set<string>();
  for (const { name } of membersOf(body)) {
    if (seen.has(name)) return { param: name.slice(0, 64), why: 'it has this member twice' };
    seen.add(name);
  }
  return null;
}

export function isUnbounded(bounds: RequestBounds | Unbounded): bounds is Unbounded {
  return 'why' in bounds;
}

function findUnbounded(json: JsonObject): Unbounded | null {
  for (const [param, why] of Object.entries(AT_THE_PROVIDER)) {
    if (isGiven(json[param])) return { param, why };
  }
  const tool = objectsIn(json.tools).find(
    ({ type }) => asText(type) !== null && !CLIENT_TOOLS.test(String(type)),
  );
  if (tool !== undefined) {
    return { param: 'tools', why: `the provider runs ${String(tool.type).slice(0, 64)}` };
  }
  const model = asText(json.model)?.toLowerCase() ?? '';
  return SEARCHING_MODELS.test(model) ? { param: 'model', why: 'the model searches' } : null;
}

function isGiven(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false;
  return !Array.isArray(value) || value.length > 0;
}

function boundJson(request: BoundedRequest, json: JsonObject): RequestBounds | Unbounded {
  const { format, side, body, prepared } = request;
  const context = limitsOf(prepared.requestedModel)?.context ?? null;
  const content = boundContent(json);
  const kept = KEPT_THERE.find((name) => isGiven(json[name]));
  const isStoredPrompt = format === 'openai-responses' && isGiven(json.prompt);
  const open = content.openPart ?? kept ?? (isStoredPrompt ? 'prompt' : null);
  if (open !== null && context === null) {
    return { param: open, why: 'only the context of the model bounds it, which is not known here' };
  }
  const model = prepared.requestedModel ?? '';
  const imageTokens = content.images * (DEAR_IMAGES.test(model) ? DEAR_IMAGE_TOKENS : IMAGE_TOKENS);
  const textBytes = body.length - content.encodedBytes;
  const most = context ?? Number.POSITIVE_INFINITY;
  const input = textBytes + HIDDEN_TOKENS + imageTokens + content.audioTokens;
  const inputTokens = open === null ? Math.min(input, most) : most;
  return {
    inputTokens,
    inputAudioTokens: Math.min(content.audioTokens, inputTokens),
    inputImageTokens: Math.min(imageTokens, inputTokens),
    ...boundOutput(request, json),
    choices: Math.max(prepared.choices, side === 'completions' ? (asCount(json.best_of) ?? 1) : 1),
    predictedTokens: isGiven(json.prediction)
      ? Buffer.byteLength(JSON.stringify(json.prediction))
      : 0,
    speaks: Array.isArray(json.modalities) && json.modalities.includes('audio'),
    cacheWrites: cacheWritesOf(format, body),
    serviceTier: asText(json.service_tier),
    speed: asText(json.speed),
    region: asText(json.inference_geo),
  };
}

function boundOutput({ format, side, prepared }: BoundedRequest, json: JsonObject) {
  if (side === 'embeddings') return { outputLimit: 0, limitMembers: [], leastOutput: 0 };
  const given = LIMIT_MEMBERS[format]
    .filter((name) => json[name] !== undefined)
    .map((name) => ({ name, value: asCount(json[name]), isGiven: true }));
  const limits = given.flatMap(({ value }) => value ?? []);
  const outputLimit = limits.length === 0 ? null : Math.max(...limits);
  // Thinking has to fit into it.
  const thinking = asCount(asObject(json.thinking)?.budget_tokens) ?? 0;
  return {
    outputLimit,
    limitMembers:
      given.length > 0
        ? given
        : [{ name: usualMember(format, side, prepared), value: null, isGiven: false }],
    leastOutput: Math.min(outputLimit ?? Infinity, Math.max(LEAST_OUTPUT, thinking + 1)),
  };
}

function usualMember(
  format: WireFormat,
  side: SideFormat | null,
  prepared: PreparedRequest,
): string {
  if (format === 'openai-responses') return 'max_output_tokens';
  const isNew = side === null && COMPLETION_LIMITED.test(prepared.requestedModel ?? '');
  return format === 'openai-chat' && isNew ? 'max_completion_tokens' : 'max_tokens';
}

/** Anthropic's clients ask for it; elsewhere it happens by itself. */
function cacheWritesOf(format: WireFormat, body: Buffer): RequestBounds['cacheWrites'] {
  if (format === 'anthropic-messages' && !body.includes('"cache_control"')) return 'none';
  return body.includes('"1h"') ? 'hour' : 'minutes';
}
