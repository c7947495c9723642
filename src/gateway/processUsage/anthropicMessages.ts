import { type Draft, emptyDraft, type FormatReader } from './draft.js';
import {
  asCount,
  asObject,
  asText,
  byteLength,
  decimalText,
  errorName,
  type JsonObject,
  objectsIn,
} from './json.js';
import type { OtherModelUsage, TokenCounts } from './types.js';

/**
 * `POST /v1/messages`: usage at the start and at the end. Its counts are cumulative, so the last
 * value of each wins; a repeated or spliced `message_start` begins anew.
 */
export class AnthropicMessagesReader implements FormatReader {
  readonly draft: Draft = emptyDraft();
  sawFirstToken = false;
  #usage: JsonObject = {};

  event(payload: JsonObject, text: string): void {
    const { draft } = this;
    switch (payload.type) {
      case 'message_start': {
        const message = asObject(payload.message) ?? {};
        draft.otherModels = [];
        draft.usage = 'missing';
        this.#readMessage(message);
        this.#readUsage(asObject(message.usage) ?? {}, text, 'partial');
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
        const stopReason = asText(asObject(payload.delta)?.stop_reason);
        draft.finishReason = stopReason ?? draft.finishReason;
        const usage = asObject(payload.usage);
        if (usage === null) break;
        const isFinal = draft.finishReason !== null && asCount(usage.output_tokens) !== null;
        this.#readUsage({ ...this.#usage, ...said(usage) }, text, isFinal ? 'final' : 'partial');
        break;
      }
      case 'message_stop':
        draft.complete = true;
        break;
      case 'error':
        draft.error = errorName(payload.error);
        draft.complete = true;
        break;
    }
  }

  body(payload: JsonObject, text: string): void {
    this.draft.complete = true;
    if (payload.type === 'error' || payload.error) {
      this.draft.error = errorName(payload.error);
      return;
    }
    this.#readMessage(payload);
    for (const block of objectsIn(payload.content)) this.#addBlock(block);
    this.#readUsage(asObject(payload.usage) ?? {}, text, 'final');
  }

  #readMessage(message: JsonObject): void {
    const { draft } = this;
    draft.messageId = asText(message.id) ?? draft.messageId;
    draft.model = asText(message.model) ?? draft.model;
    draft.finishReason = asText(message.stop_reason);
    draft.inferenceProvider = asText(message.provider) ?? draft.inferenceProvider;
  }

  #readUsage(usage: JsonObject, text: string, kind: 'final' | 'partial'): void {
    const { draft } = this;
    this.#usage = usage;
    const hasInput = asCount(usage.input_tokens) !== null;
    const hasOutput = asCount(usage.output_tokens) !== null;
    if (!hasInput && !hasOutput) return;
    const iterations = objectsIn(usage.iterations);
    const total = readTokens(usage);
    // The totals leave out what compaction used, though the same model is paid for it.
    for (const each of iterations) if (each.type === 'compaction') add(total, readTokens(each));
    Object.assign(draft, total);
    if (!hasInput) draft.inputTokens = null;
    if (!hasOutput) draft.outputTokens = null;
    draft.otherModels = iterations.filter(isAdvisor).map(toOtherModel(draft.model));
    draft.reasoningTokens = asCount(asObject(usage.output_tokens_details)?.thinking_tokens);
    draft.webSearches = asCount(asObject(usage.server_tool_use)?.web_search_requests) ?? 0;
    const tier = asText(usage.service_tier);
    draft.serviceTier = usage.speed === 'fast' ? 'fast' : tier;
    draft.costUsd = decimalText(text, 'cost', usage.cost);
    draft.isByok = typeof usage.is_byok === 'boolean' ? usage.is_byok : null;
    draft.usage = kind;
  }

  #addBlock(block: JsonObject): void {
    const { text, thinking, input, name } = block;
    let bytes = byteLength(text) + byteLength(thinking) + byteLength(name);
    const isCall = asObject(input) !== null && Object.keys(input as object).length > 0;
    if (isCall) bytes += byteLength(JSON.stringify(input));
    this.draft.outputBytes += bytes;
  }

  #addDelta(delta: JsonObject): void {
    this.draft.outputBytes +=
      byteLength(delta.text) + byteLength(delta.thinking) + byteLength(delta.partial_json);
  }
}

/** What is null is not said, and hides nothing that was said before. */
function said(usage: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(usage).filter(([, value]) => value !== null));
}

/** Anthropic counts the cache's tokens apart from the input's. */
function readTokens(usage: JsonObject): TokenCounts {
  const cacheHitTokens = asCount(usage.cache_read_input_tokens) ?? 0;
  const split = asObject(usage.cache_creation);
  const cacheWrite1hTokens = asCount(split?.ephemeral_1h_input_tokens) ?? 0;
  const cacheWriteTokens =
    asCount(usage.cache_creation_input_tokens) ??
    (asCount(split?.ephemeral_5m_input_tokens) ?? 0) + cacheWrite1hTokens;
  return {
    inputTokens: (asCount(usage.input_tokens) ?? 0) + cacheHitTokens + cacheWriteTokens,
    outputTokens: asCount(usage.output_tokens) ?? 0,
    cacheHitTokens,
    cacheWriteTokens,
    cacheWrite1hTokens: Math.min(cacheWrite1hTokens, cacheWriteTokens),
    inputAudioTokens: 0,
    inputImageTokens: 0,
    outputAudioTokens: 0,
    outputImageTokens: 0,
  };
}

function add(total: TokenCounts, more: TokenCounts): void {
  for (const part of Object.keys(total) as (keyof TokenCounts)[]) total[part] += more[part];
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
