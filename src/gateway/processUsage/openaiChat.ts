import { addOutput, type Draft, emptyDraft, type FormatReader, raiseCharge } from './draft.js';
import {
  asCount,
  asObject,
  asText,
  byteLength,
  errorName,
  type JsonObject,
  objectsIn,
  otherError,
} from './json.js';
import { mergeUsage } from './mergeUsage.js';
import { readCost, readOpenAiEnvelope, readOpenAiUsage } from './openaiUsage.js';
import { countGroundingSearches, nameCharge } from './serverTools.js';
import { COUNT_NAMES, findUsage } from './usageNames.js';

/** More answers than any request may ask for. */
const MAX_CHOICES = 256;
/** Of text that an image is taken for, as one of a prompt is: a thousand tokens. */
const BYTES_PER_IMAGE = 4_000;
/** Models that search before every answer, and say nothing of it in their usage. */
const SEARCHING_MODEL = /-search-(preview|api)\b/;

/** `POST /v1/chat/completions`: usage in the last chunk, or in the body. */
export class OpenAiChatReader implements FormatReader {
  readonly draft: Draft = emptyDraft();
  sawFirstToken = false;
  #sawDone = false;
  /** A chunk of usage and no choice came, and no output after it. */
  #sawUsageOnly = false;
  readonly #seen = new Set<number>();
  readonly #ended = new Set<number>();
  /** Of each choice, where usage is reported by choice. */
  readonly #byChoice = new Map<number, JsonObject>();

  event(payload: JsonObject, text: string): void {
    const hasUsage = this.#readCommon(payload, text, 'delta');
    if (hasUsage && objectsIn(payload.choices).length === 0) this.#sawUsageOnly = true;
    this.#conclude();
  }

  plain(text: string): boolean {
    if (text.trim() !== '[DONE]') return false;
    this.#sawDone = true;
    this.#conclude();
    return true;
  }

  body(payload: JsonObject, text: string): void {
    if (this.#readCommon(payload, text, 'message')) this.draft.usage = 'final';
    this.draft.endedChoices = null;
    this.draft.complete = true;
  }

  /**
   * Some providers send running totals with every chunk, so that only the end makes them final: the
   * end of every choice, for that of one is not the end of the answer.
   */
  #conclude(): void {
    const { draft } = this;
    const areEnded = this.#ended.size > 0 && this.#ended.size >= this.#seen.size;
    const isOver = this.#sawDone || this.#sawUsageOnly || areEnded;
    if (draft.usage !== 'missing') draft.usage = isOver ? 'final' : 'partial';
    draft.complete = this.#sawDone || (areEnded && draft.usage === 'final');
    draft.endedChoices = this.#sawDone || this.#sawUsageOnly ? null : this.#ended.size;
  }

  /** True when the payload held usage. */
  #readCommon(payload: JsonObject, text: string, part: 'delta' | 'message'): boolean {
    const { draft } = this;
    readOpenAiEnvelope(draft, payload);
    if (payload.error) draft.error = errorName(payload.error);
    const choices = objectsIn(payload.choices);
    if (choices.length === 0) draft.error ??= otherError(payload);
    for (const choice of choices) this.#readChoice(choice, asObject(choice[part]) ?? {});
    if (SEARCHING_MODEL.test(draft.model ?? '') && choices.length > 0) {
      raiseCharge(draft, 'web_searches', 1);
    }
    // Few chunks tell of any.
    if (text === '' || text.includes('rounding')) {
      const messages = objectsIn(choices.map((choice) => choice[part]));
      const searches = countGroundingSearches([payload, ...choices, ...messages]);
      raiseCharge(draft, 'web_searches', searches);
    }
    const usage = findUsage(payload) ?? this.#readUsageByChoice(choices);
    if (usage === null) {
      readCost(draft, null, text, payload);
      return false;
    }
    const { tool_usage = null } = payload;
    const all = tool_usage === null ? usage : { tool_usage, ...usage };
    if (!readOpenAiUsage(draft, all, text, payload)) return false;
    if (draft.usage === 'missing') draft.usage = 'partial';
    return true;
  }

  #readChoice(choice: JsonObject, message: JsonObject): void {
    const { draft } = this;
    const index = Math.min(asCount(choice.index) ?? 0, MAX_CHOICES);
    this.#seen.add(index);
    const reason = asText(choice.finish_reason);
    if (reason !== null) this.#ended.add(index);
    draft.finishReason = reason ?? draft.finishReason;
    if (choice.error) draft.error = errorName(choice.error);
    this.#readOutput(message);
    this.#addOutput({ text: byteLength(choice.text) });
    this.#countTools(objectsIn(message.executed_tools));
  }

  /** Groq runs tools itself, and charges for some of them. */
  #countTools(tools: readonly JsonObject[]): void {
    const names = tools.map((tool) => nameCharge(asText(tool.type) ?? ''));
    for (const name of new Set(names)) {
      if (name === null) continue;
      raiseCharge(this.draft, name, names.filter((each) => each === name).length);
    }
  }

  /** Moonshot, at the end of each choice. The prompt is one, the completions are many. */
  #readUsageByChoice(choices: readonly JsonObject[]): JsonObject | null {
    for (const choice of choices) {
      const usage = usageOfChoice(choice);
      const index = Math.min(asCount(choice.index) ?? 0, MAX_CHOICES);
      if (usage === null) continue;
      this.#byChoice.set(index, mergeUsage(this.#byChoice.get(index) ?? {}, usage));
    }
    if (!choices.some((choice) => usageOfChoice(choice) !== null)) return null;
    let all: JsonObject = {};
    const sums: Record<string, number> = {};
    for (const usage of this.#byChoice.values()) {
      all = mergeUsage(all, usage);
      for (const name of COUNT_NAMES.completion) {
        const count = asCount(usage[name]);
        if (count !== null) sums[name] = (sums[name] ?? 0) + count;
      }
    }
    // The totals are those of one choice each.
    const isTotal = (name: string) => (COUNT_NAMES.total as readonly string[]).includes(name);
    const parts = Object.entries(all).filter(([name]) => !isTotal(name));
    return { ...Object.fromEntries(parts), ...sums };
  }

  #readOutput(message: JsonObject): void {
    let text = byteLength(message.content) + byteLength(message.refusal);
    // The same reasoning under several names, by different providers, or more than one of them by one.
    let reasoning =
      byteLength(message.reasoning) ||
      byteLength(message.reasoning_content) ||
      sumOf(message.reasoning_details, ['text', 'summary']) ||
      sumOf(message.thinking_blocks, ['thinking']);
    let images = objectsIn(message.images).length;
    for (const part of objectsIn(message.content)) {
      text += byteLength(part.text);
      if (part.type === 'image_url') images++;
      // Mistral.
      for (const thought of objectsIn(part.thinking)) reasoning += byteLength(thought.text);
    }
    this.draft.imageBytes += images * BYTES_PER_IMAGE;
    text += images * BYTES_PER_IMAGE;
    const calls = objectsIn(message.tool_calls).map((call) => asObject(call.function) ?? {});
    const legacyCall = asObject(message.function_call);
    if (legacyCall !== null) calls.push(legacyCall);
    // Made by the model as any text is: usage of zeros beside a call is no usage either.
    for (const each of calls) text += byteLength(each.name) + byteLength(each.arguments);
    const audio = asObject(message.audio);
    if (audio !== null) this.sawFirstToken = true;
    this.#addOutput({ text: text + byteLength(audio?.transcript), reasoning });
  }

  #addOutput(bytes: Parameters<typeof addOutput>[1]): void {
    if (addOutput(this.draft, bytes) === 0) return;
    this.sawFirstToken = true;
    this.#sawUsageOnly = false;
  }
}

function sumOf(parts: unknown, names: readonly string[]): number {
  let bytes = 0;
  for (const part of objectsIn(parts)) for (const name of names) bytes += byteLength(part[name]);
  return bytes;
}

function usageOfChoice({ usage, message, delta }: JsonObject): JsonObject | null {
  return asObject(usage) ?? asObject(asObject(message)?.usage) ?? asObject(asObject(delta)?.usage);
}
