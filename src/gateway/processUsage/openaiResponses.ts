import { type Draft, emptyDraft, type FormatReader } from './draft.js';
import { asObject, asText, byteLength, errorName, type JsonObject, objectsIn } from './json.js';
import { readOpenAiEnvelope, readOpenAiUsage } from './openaiUsage.js';

/** The last event of a stream bears one of these. */
export const RESPONSES_TERMINAL_TYPES: ReadonlySet<string> = new Set([
  'response.completed',
  'response.incomplete',
  'response.failed',
  'response.cancelled',
  'error',
]);

/**
 * `POST /v1/responses`: usage in the terminal event, or in the body. One request has one response;
 * should a stream hold several, the last counts, as the official client has it.
 */
export class OpenAiResponsesReader implements FormatReader {
  readonly draft: Draft = emptyDraft();
  sawFirstToken = false;

  event(payload: JsonObject, text: string): void {
    const { draft } = this;
    const type = asText(payload.type) ?? '';
    const response = asObject(payload.response);
    if (response !== null) this.#readResponse(response, text);
    if (payload.error) draft.error = errorName(payload.error);
    else if (type === 'error') draft.error = asText(payload.code) ?? 'error';
    if (type.endsWith('.delta')) this.#addOutput(byteLength(payload.delta));
    else if (type === 'response.output_item.added') this.sawFirstToken = true;
    if (RESPONSES_TERMINAL_TYPES.has(type)) draft.complete = true;
  }

  body(payload: JsonObject, text: string): void {
    this.#readResponse(payload, text);
    for (const item of objectsIn(payload.output)) {
      this.draft.outputBytes += byteLength(item.arguments) + byteLength(item.input);
      for (const part of objectsIn(item.content)) this.draft.outputBytes += byteLength(part.text);
    }
    this.draft.complete = true;
  }

  #readResponse(response: JsonObject, text: string): void {
    const { draft } = this;
    readOpenAiEnvelope(draft, response);
    const reason = asText(asObject(response.incomplete_details)?.reason);
    const status = asText(response.status);
    if (status !== null && status !== 'in_progress' && status !== 'queued') {
      draft.finishReason = reason ?? status;
    }
    draft.error = response.error ? errorName(response.error) : draft.error;
    const output = objectsIn(response.output);
    if (output.length > 0) {
      draft.webSearches = output.filter(isWebSearch).length;
      draft.fileSearches = output.filter((item) => item.type === 'file_search_call').length;
    }
    const usage = asObject(response.usage);
    if (usage !== null && readOpenAiUsage(draft, usage, text)) draft.usage = 'final';
  }

  #addOutput(bytes: number): void {
    this.draft.outputBytes += bytes;
    this.sawFirstToken = true;
  }
}

/** Opening a page that was found, or searching within it, is not charged as a search. */
function isWebSearch(item: JsonObject): boolean {
  if (item.type !== 'web_search_call') return false;
  const action = asText(asObject(item.action)?.type);
  return action === null || action === 'search';
}
