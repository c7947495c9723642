import { readAttempts } from './attempts.js';
import { addOutput, type Draft, emptyDraft, type FormatReader, raiseCharge } from './draft.js';
import {
  asObject,
  asText,
  byteLength,
  errorName,
  type JsonObject,
  objectsIn,
  otherError,
} from './json.js';
import { mergeUsage } from './mergeUsage.js';
import { readCacheHits, readCacheWrites, readCost, readModifiers } from './openaiUsage.js';
import { readServerTools } from './serverTools.js';
import type { OtherModelUsage, TokenCounts } from './types.js';
import { COUNT_NAMES, completionDetails, countIn } from './usageNames.js';

/** Bedrock puts counts of its own beside the last event. */
const BEDROCK = 'amazon-bedrock-invocationMetrics';

/**
 * What is declined before anything was generated is billed in these categories, as documented in
 * September 2026; in any other, or in none (null), it is not.
 */
const BILLED_REFUSALS: ReadonlySet<string> = new Set([
  'bio',
  'frontier_llm',
  'reasoning_extraction',
]);
/** Models of one answer; more are not remembered. */
const MAX_MODELS = 16;

const OWN_INPUT = ['input_tokens', 'input_token_count'] as const;

/**
 * `POST /v1/messages`: usage at the start and at the end. Its counts are cumulative. A repeated
 * `message_start` of the same message says the same again; that of another begins anew.
 */
export class AnthropicMessagesReader implements FormatReader {
  readonly draft: Draft = emptyDraft();
  sawFirstToken = false;
  /** A late event told of the output, before the reason of the end. */
  #sawLateOutput = false;
  /** Why it was declined: '' = for no reason that has a name, null = not said. */
  #refusal: string | null = null;
  /** Models that another took the place of, whose reason to decline is billed. */
  readonly #billedModels = new Set<string>();
  /** Generated before the model that answers began. */
  #earlierBytes = 0;
  /** Usage that came with the attempts, and after them. */
  #sinceAttempts: JsonObject = {};

  event(payload: JsonObject, text: string): void {
    const { draft } = this;
    switch (payload.type) {
      case 'message_start': {
        const message = asObject(payload.message) ?? {};
        if (asText(message.id) === null || message.id !== draft.messageId) this.#beginAnew();
        this.#readMessage(message);
        this.#readUsage(asObject(message.usage) ?? {}, text, message, 'partial');
        break;
      }
      case 'content_block_start':
        this.sawFirstToken = true;
        this.#addBlock(asObject(payload.content_block) ?? {});
        break;
      case 'content_block_delta':
        this.sawFirstToken = true;
        this.#addDelta(asObject(payload.delta) ?? {});
        break;
      case 'message_delta': {
        const { stop_reason, stop_details } = asObject(payload.delta) ?? {};
        draft.finishReason = asText(stop_reason) ?? draft.finishReason;
        this.#readRefusal(stop_details);
        this.#readLateUsage(payload, text);
        break;
      }
      case 'message_stop':
        this.#readLateUsage(payload, text);
        readCost(draft, null, text, payload);
        if (this.#sawLateOutput && draft.finishReason !== null) draft.usage = 'final';
        draft.complete = true;
        this.#waiveRefusal();
        break;
      case 'error':
        draft.error = errorName(payload.error);
        draft.complete = true;
        break;
      default:
        // Some tell it in an event of its own.
        readCost(draft, null, text, payload);
        draft.error ??= otherError(payload);
        break;
    }
  }

  body(payload: JsonObject, text: string): void {
    this.draft.complete = true;
    if (payload.type === 'error' || payload.error) {
      this.draft.error = errorName(payload.error);
      return;
    }
    if (!Array.isArray(payload.content)) this.draft.error = otherError(payload);
    this.#readMessage(payload);
    for (const block of objectsIn(payload.content)) this.#addBlock(block);
    this.#readUsage(asObject(payload.usage) ?? {}, text, payload, 'final');
    this.#waiveRefusal();
  }

  /** In the last events, in one of the places that translators have for it. */
  #readLateUsage(payload: JsonObject, text: string): void {
    const { usage, delta, message } = payload;
    const places = [usage, asObject(delta)?.usage, asObject(message)?.usage, payload[BEDROCK]];
    for (const usage of places.map(asObject)) {
      if (usage === null) continue;
      const hasOutput = countIn([mergeUsage({}, usage)], COUNT_NAMES.completion) !== null;
      this.#sawLateOutput ||= hasOutput;
      const isFinal = this.draft.finishReason !== null && hasOutput;
      this.#readUsage(usage, text, payload, isFinal ? 'final' : 'partial');
    }
  }

  #beginAnew(): void {
    this.draft.otherModels = [];
    if (this.draft.isUnbilled) this.draft.isUnbilled = false;
    this.draft.usage = 'missing';
    this.draft.reported = {};
    this.#sawLateOutput = false;
    this.#refusal = null;
    this.#billedModels.clear();
    this.#earlierBytes = 0;
    this.#sinceAttempts = {};
  }

  #readMessage(message: JsonObject): void {
    const { draft } = this;
    draft.messageId = asText(message.id) ?? draft.messageId;
    draft.model = asText(message.model) ?? draft.model;
    draft.finishReason = asText(message.stop_reason);
    this.#readRefusal(message.stop_details);
    draft.inferenceProvider = asText(message.provider) ?? draft.inferenceProvider;
  }

  #readUsage(
    reported: JsonObject,
    text: string,
    payload: JsonObject,
    kind: 'final' | 'partial',
  ): void {
    const { draft } = this;
    readCost(draft, reported, text, payload);
    draft.reported = mergeUsage(lessWhole(draft.reported, reported), reported);
    const isTold = objectsIn(reported.iterations).length > 0;
    this.#sinceAttempts = mergeUsage(isTold ? {} : this.#sinceAttempts, reported);
    const usage = draft.reported;
    const hasInput = countIn([usage], COUNT_NAMES.prompt) !== null;
    const hasOutput = countIn([usage], COUNT_NAMES.completion) !== null;
    if (!hasInput && !hasOutput) return;
    const iterations = objectsIn(usage.iterations);
    const attempts = readAttempts(iterations, this.#billedModels);
    draft.model = attempts?.model ?? draft.model;
    const total = readTokens(usage);
    if (attempts !== null) {
      // A stream may tell of its attempts at its start alone. What came before is the first model's.
      const since = readTokens(this.#sinceAttempts);
      const own = sumOf(attempts.own.map(readTokens));
      for (const part of partsOf(total)) total[part] = Math.max(own[part], since[part]);
    }
    // The totals leave out what compaction used, though the same model is paid for it.
    for (const each of iterations) if (each.type === 'compaction') add(total, readTokens(each));
    Object.assign(draft, total);
    if (!hasInput) draft.inputTokens = null;
    if (!hasOutput) draft.outputTokens = null;
    const others = [...iterations.filter(isAdvisor), ...(attempts?.declined ?? [])];
    draft.otherModels = others.map(toOtherModel(draft.model));
    draft.reasoningTokens = countIn([...completionDetails(usage), usage], COUNT_NAMES.reasoning);
    readModifiers(draft, usage);
    readServerTools(usage, (name, count) => raiseCharge(draft, name, count));
    if (draft.usage !== 'final') draft.usage = kind;
  }

  #readRefusal(details: unknown): void {
    const told = asObject(details);
    if (told !== null) this.#refusal = asText(told.category) ?? this.#refusal ?? '';
  }

  #waiveRefusal(): void {
    const { draft } = this;
    // Streams begin with an output of one.
    const isNothing =
      draft.outputBytes === this.#earlierBytes &&
      (draft.outputTokens ?? 0) <= 1 &&
      draft.webSearches === 0;
    const isFree = this.#refusal !== null && !BILLED_REFUSALS.has(this.#refusal);
    if (draft.finishReason === 'refusal' && isNothing && isFree) draft.isUnbilled = true;
  }

  #addBlock(block: JsonObject): void {
    const { text, thinking, input, name } = block;
    if (block.type === 'fallback') this.#changeModel(block);
    const isCall = asObject(input) !== null && Object.keys(input as object).length > 0;
    const call = byteLength(name) + (isCall ? byteLength(JSON.stringify(input)) : 0);
    addOutput(this.draft, { text: byteLength(text) + call, reasoning: byteLength(thinking) });
  }

  /** From here on another one answers. */
  #changeModel({ from, to, trigger }: JsonObject): void {
    const declined = asText(asObject(from)?.model);
    const category = asText(asObject(trigger)?.category) ?? '';
    const isBilled = BILLED_REFUSALS.has(category) && this.#billedModels.size < MAX_MODELS;
    if (declined !== null && isBilled) this.#billedModels.add(declined);
    this.draft.model = asText(asObject(to)?.model) ?? this.draft.model;
    this.#earlierBytes = this.draft.outputBytes;
  }

  #addDelta({ text, thinking, partial_json }: JsonObject): void {
    addOutput(this.draft, {
      text: byteLength(text) + byteLength(partial_json),
      reasoning: byteLength(thinking),
    });
  }
}

/**
 * What was reported before, less a prompt that the later report splits. Translators of APIs that count
 * the cache within the prompt tell all of it at the start, and at the end what came from the cache and
 * what is left (Kimi, Qwen): that takes the place of the whole. A zero may be one that was not counted.
 */
function lessWhole(before: JsonObject, reported: JsonObject): JsonObject {
  const later = mergeUsage({}, reported);
  const whole = countIn([before], COUNT_NAMES.prompt);
  const rest = countIn([later], COUNT_NAMES.prompt);
  const cached = countCached(later);
  if (whole === null || rest === null || rest >= whole) return before;
  if (cached <= countCached(before) || (rest === 0 && cached !== whole)) return before;
  const names: ReadonlySet<string> = new Set(COUNT_NAMES.prompt);
  return Object.fromEntries(Object.entries(before).filter(([name]) => !names.has(name)));
}

function countCached(usage: JsonObject): number {
  return readCacheHits(usage) + readCacheWrites(usage)[0];
}

function readTokens(reported: JsonObject): TokenCounts {
  const usage = mergeUsage({}, reported);
  const cacheHitTokens = readCacheHits(usage);
  const [cacheWriteTokens, cacheWrite1hTokens] = readCacheWrites(usage);
  const output = countIn([usage], COUNT_NAMES.completion) ?? 0;
  const inputTokens = readInput(usage, cacheHitTokens + cacheWriteTokens, output);
  // What a total has beyond both was generated, unseen (addUp.ts).
  const surplus = (countIn([usage], COUNT_NAMES.total) ?? 0) - inputTokens - output;
  return {
    inputTokens,
    outputTokens: output + Math.max(0, surplus),
    cacheHitTokens,
    cacheWriteTokens,
    cacheWrite1hTokens: Math.min(cacheWrite1hTokens, cacheWriteTokens),
    cacheAudioTokens: 0,
    cacheImageTokens: 0,
    inputAudioTokens: 0,
    inputImageTokens: 0,
    outputAudioTokens: 0,
    outputImageTokens: 0,
  };
}

/**
 * Anthropic counts the cache's tokens apart from the input's. A translator in front of another API
 * may pass on counts in that one's terms, where the prompt has them in it: by their names, or by a
 * total that leaves no room for them.
 */
function readInput(usage: JsonObject, cached: number, output: number): number {
  const own = countIn([usage], OWN_INPUT);
  const prompt = own ?? countIn([usage], COUNT_NAMES.prompt) ?? 0;
  const isTotal = countIn([usage], COUNT_NAMES.total) === prompt + output;
  const isWithin = cached <= prompt && (isTotal || own === null);
  return isWithin ? prompt : prompt + cached;
}

function sumOf([first, ...rest]: readonly TokenCounts[]): TokenCounts {
  const total = { ...(first ?? readTokens({})) };
  for (const each of rest) add(total, each);
  return total;
}

function add(total: TokenCounts, more: TokenCounts): void {
  for (const part of partsOf(total)) total[part] += more[part];
}

function partsOf(tokens: TokenCounts): (keyof TokenCounts)[] {
  return Object.keys(tokens) as (keyof TokenCounts)[];
}

function isAdvisor(iteration: JsonObject): boolean {
  return iteration.type === 'advisor_message';
}

function toOtherModel(ownModel: string | null) {
  return (iteration: JsonObject): OtherModelUsage => ({
    model: asText(iteration.model) ?? ownModel ?? '',
    tokens: readTokens(iteration),
  });
}
