import { AnthropicMessagesReader } from './anthropicMessages.js';
import { type FormatReader, toReading } from './draft.js';
import { guarded } from './guarded.js';
import { asObject } from './json.js';
import { OpenAiChatReader } from './openaiChat.js';
import { OpenAiResponsesReader } from './openaiResponses.js';
import type { UsageReading, WireFormat } from './types.js';

const FORMAT_READERS = {
  'openai-chat': OpenAiChatReader,
  'openai-responses': OpenAiResponsesReader,
  'anthropic-messages': AnthropicMessagesReader,
} as const satisfies Record<WireFormat, new () => FormatReader>;

export function createFormatReader(format: WireFormat): FormatReader {
  return guarded(new FORMAT_READERS[format]());
}

/** Reads payloads that someone else has parsed already, as an SDK does. Never throws. */
export class PayloadReader {
  readonly #format: FormatReader;

  constructor(format: WireFormat) {
    this.#format = createFormatReader(format);
  }

  get sawFirstToken(): boolean {
    return this.#format.sawFirstToken;
  }

  /** One event of a stream. */
  event(payload: unknown): void {
    const object = asObject(payload);
    if (object !== null) this.#format.event(object, '');
  }

  /** A whole answer. */
  body(payload: unknown): void {
    const object = asObject(payload);
    if (object !== null) this.#format.body(object, '');
  }

  /** The stream ended as it should: the parser before this one keeps its end mark to itself. */
  endOfStream(): void {
    this.#format.plain?.('[DONE]');
  }

  reading(): UsageReading {
    return toReading(this.#format.draft);
  }
}
