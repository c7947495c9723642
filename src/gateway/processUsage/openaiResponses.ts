import { addOutput, type Draft, emptyDraft, type FormatReader, raiseCharge } from './draft.js';
import { HostedTools, WEB_SEARCH_PREVIEWS } from './hostedTools.js';
import {
  asObject,
  asText,
  byteLength,
  errorName,
  type JsonObject,
  objectsIn,
  otherError,
} from './json.js';
import { MAX_ITEM_ID } from './namedItems.js';
import { readCost, readOpenAiEnvelope, readOpenAiUsage } from './openaiUsage.js';
import { findUsage } from './usageNames.js';

/** The last event of a stream bears one of these. */
export const RESPONSES_TERMINAL_TYPES: ReadonlySet<string> = new Set([
  'response.completed',
  // OpenRouter.
  'response.done',
  'response.incomplete',
  'response.failed',
  'response.cancelled',
  'error',
]);

/** Of a response; more are not remembered. */
const MAX_ITEMS = 1_000;

/**
 * `POST /v1/responses`: usage in the terminal event, or in the body. One request has one response;
 * should a stream hold several, the last counts, as the official client has it.
 */
export class OpenAiResponsesReader implements FormatReader {
  readonly draft: Draft = emptyDraft();
  sawFirstToken = false;
  #tools = new HostedTools();

  event(payload: JsonObject, text: string): void {
    const { draft } = this;
    const type = asText(payload.type) ?? '';
    const response = asObject(payload.response);
    // Some send the usage beside the response.
    if (response !== null) {
      const isOver = RESPONSES_TERMINAL_TYPES.has(type) || isEnded(response);
      this.#readResponse({ ...response, usage: response.usage ?? payload.usage }, text, isOver);
    }
    const item = asObject(payload.item);
    if (item !== null) {
      this.#tools.addItem(item);
      this.#noteItem(item);
    }
    if (payload.error) draft.error = errorName(payload.error);
    else if (type === 'error') draft.error = asText(payload.code) ?? 'error';
    else if (!type.includes('.') && response === null) draft.error ??= otherError(payload);
    if (type.endsWith('.delta')) this.#addDelta(type, byteLength(payload.delta));
    else if (type === 'response.output_item.added') this.sawFirstToken = true;
    // Some tell it in an event of its own.
    else if (response === null) readCost(draft, null, text, payload);
    if (item !== null || response !== null) this.#charge();
    if (!RESPONSES_TERMINAL_TYPES.has(type)) return;
    draft.complete = true;
    const isWhole = type === 'response.completed' || type === 'response.done';
    if (isWhole && draft.usage === 'partial') draft.usage = 'final';
  }

  /** Translators end it as a chat. */
  plain(text: string): boolean {
    if (text.trim() !== '[DONE]') return false;
    if (this.draft.usage === 'partial') this.draft.usage = 'final';
    return true;
  }

  body(payload: JsonObject, answer: string): void {
    const { draft } = this;
    this.#readResponse(payload, answer, true);
    if (!Array.isArray(payload.output)) draft.error ??= otherError(payload);
    for (const item of objectsIn(payload.output)) {
      addOutput(draft, { call: byteLength(item.arguments) + byteLength(item.input) });
      for (const { text, refusal } of objectsIn(item.content)) {
        addOutput(draft, { text: byteLength(text) + byteLength(refusal) });
      }
      for (const part of objectsIn(item.summary)) {
        addOutput(draft, { reasoning: byteLength(part.text) });
      }
    }
    this.#charge();
    draft.complete = true;
  }

  #readResponse(response: JsonObject, text: string, isOver: boolean): void {
    const { draft } = this;
    const id = asText(response.id);
    if (id !== null && draft.messageId !== null && id !== draft.messageId) this.#beginAnew();
    readOpenAiEnvelope(draft, response);
    for (const item of objectsIn(response.output)) this.#noteItem(item);
    const reason = asText(asObject(response.incomplete_details)?.reason);
    if (isEnded(response)) draft.finishReason = reason ?? asText(response.status);
    draft.error = response.error ? errorName(response.error) : draft.error;
    this.#tools.readResponse(response);
    const usage = findUsage(response);
    if (usage === null) readCost(draft, null, text, response);
    else if (readOpenAiUsage(draft, usage, text, response) && draft.usage !== 'final') {
      // What is told of one in progress is a running total.
      draft.usage = isOver ? 'final' : 'partial';
    }
  }

  #noteItem(item: JsonObject): void {
    const id = asText(item.id);
    const { itemIds } = this.draft;
    if (id !== null && id.length <= MAX_ITEM_ID && itemIds.size < MAX_ITEMS) itemIds.add(id);
  }

  #beginAnew(): void {
    const { draft } = this;
    draft.usage = 'missing';
    draft.reported = {};
    draft.webSearches = 0;
    draft.fileSearches = 0;
    draft.charges = {};
    this.#tools = new HostedTools();
  }

  #charge(): void {
    const { draft } = this;
    const { charges, otherModels, doubts, hasPreviews } = this.#tools.count();
    for (const [name, count] of Object.entries(charges)) raiseCharge(draft, name, count);
    // The usage tells of them as of any search, and so did the items before the tools were known.
    if (hasPreviews) {
      raiseCharge(draft, WEB_SEARCH_PREVIEWS, draft.webSearches);
      draft.webSearches = 0;
    }
    draft.otherModels = otherModels;
    for (const doubt of [...draft.doubts]) {
      if (doubt.startsWith('charge:') && !doubts.includes(doubt)) draft.doubts.delete(doubt);
    }
    for (const doubt of doubts) draft.doubts.add(doubt);
  }

  #addDelta(type: string, bytes: number): void {
    if (/reasoning/.test(type)) addOutput(this.draft, { reasoning: bytes });
    else if (/output_text|refusal/.test(type)) addOutput(this.draft, { text: bytes });
    else addOutput(this.draft, { call: bytes });
    this.sawFirstToken = true;
  }
}

function isEnded(response: JsonObject): boolean {
  const status = asText(response.status);
  return status !== null && status !== 'in_progress' && status !== 'queued';
}
