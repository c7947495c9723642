import { type Draft, emptyDraft, type FormatReader } from './draft.js';
import { asObject, asText, byteLength, errorName, type JsonObject, objectsIn } from './json.js';
import { readOpenAiEnvelope, readOpenAiUsage } from './openaiUsage.js';

/** `POST /v1/chat/completions`: usage in the last chunk, or in the body. */
export class OpenAiChatReader implements FormatReader {
  readonly draft: Draft = emptyDraft();
  sawFirstToken = false;
  #sawDone = false;

  event(payload: JsonObject, text: string): void {
    const hasUsage = this.#readCommon(payload, text, 'delta');
    const { draft } = this;
    // Some providers send running totals with every chunk, so that only the end makes them final.
    const isUsageOnly = hasUsage && objectsIn(payload.choices).length === 0;
    if (isUsageOnly || (draft.finishReason !== null && draft.usage === 'partial')) {
      draft.usage = 'final';
    }
    draft.complete = this.#sawDone || (draft.finishReason !== null && draft.usage === 'final');
  }

  plain(text: string): boolean {
    if (text.trim() !== '[DONE]') return false;
    this.#sawDone = true;
    this.draft.complete = true;
    if (this.draft.usage === 'partial') this.draft.usage = 'final';
    return true;
  }

  body(payload: JsonObject, text: string): void {
    if (this.#readCommon(payload, text, 'message')) this.draft.usage = 'final';
    this.draft.complete = true;
  }

  /** True when the payload held usage. */
  #readCommon(payload: JsonObject, text: string, part: 'delta' | 'message'): boolean {
    const { draft } = this;
    readOpenAiEnvelope(draft, payload);
    if (payload.error) draft.error = errorName(payload.error);
    const choices = objectsIn(payload.choices);
    for (const choice of choices) {
      draft.finishReason = asText(choice.finish_reason) ?? draft.finishReason;
      if (choice.error) draft.error = errorName(choice.error);
      this.#readOutput(asObject(choice[part]) ?? {});
      if (byteLength(choice.text) > 0) this.#addOutput(byteLength(choice.text));
    }
    const usage =
      asObject(payload.usage) ??
      // Groq; Moonshot.
      asObject(asObject(payload.x_groq)?.usage) ??
      asObject(choices[0]?.usage);
    if (usage === null || !readOpenAiUsage(draft, usage, text)) return false;
    if (draft.usage === 'missing') draft.usage = 'partial';
    return true;
  }

  #readOutput(message: JsonObject): void {
    let bytes = byteLength(message.content) + byteLength(message.refusal);
    // The same reasoning under two names, by different providers, or both by one.
    bytes += byteLength(message.reasoning) || byteLength(message.reasoning_content);
    for (const part of objectsIn(message.content)) bytes += byteLength(part.text);
    const calls = objectsIn(message.tool_calls).map((call) => asObject(call.function) ?? {});
    const legacyCall = asObject(message.function_call);
    if (legacyCall !== null) calls.push(legacyCall);
    for (const call of calls) bytes += byteLength(call.name) + byteLength(call.arguments);
    if (bytes > 0) this.#addOutput(bytes);
    if (asObject(message.audio) !== null) this.sawFirstToken = true;
  }

  #addOutput(bytes: number): void {
    this.draft.outputBytes += bytes;
    this.sawFirstToken = true;
  }
}
