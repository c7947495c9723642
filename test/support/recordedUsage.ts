import type { Recording } from './wireRecordings.js';

/** What a recording says of its usage, read plainly: the whole of it at once, no stream. */
export interface RecordedUsage {
  /** Every prompt token, cached ones included. */
  inputTokens: number;
  outputTokens: number;
  cacheWriteTokens: number;
  cacheHitTokens: number;
  reasoningTokens: number | null;
  model: string;
  messageId: string;
}

// biome-ignore lint/suspicious/noExplicitAny: foreign JSON.
type Json = any;

export function readRecordedUsage(recording: Recording): RecordedUsage {
  const payloads: Json[] = recording.payloads.map((payload) => JSON.parse(payload));
  switch (recording.api) {
    case 'openai-chat':
      return readChat(recording.streamed ? payloads : [payloads[0]]);
    case 'openai-responses':
      return readResponse(recording.streamed ? payloads.at(-1).response : payloads[0]);
    case 'anthropic-messages':
      return readMessage(recording.streamed ? payloads : [{ message: payloads[0] }]);
  }
}

function readChat(chunks: Json[]): RecordedUsage {
  const { id, model, usage } = chunks.findLast((chunk) => chunk.usage);
  return {
    inputTokens: usage.prompt_tokens,
    outputTokens: usage.completion_tokens,
    cacheWriteTokens: 0,
    cacheHitTokens: usage.prompt_tokens_details.cached_tokens,
    reasoningTokens: usage.completion_tokens_details.reasoning_tokens,
    model,
    messageId: id,
  };
}

function readResponse({ id, model, usage }: Json): RecordedUsage {
  return {
    inputTokens: usage.input_tokens,
    outputTokens: usage.output_tokens,
    cacheWriteTokens: usage.input_tokens_details.cache_write_tokens ?? 0,
    cacheHitTokens: usage.input_tokens_details.cached_tokens,
    reasoningTokens: usage.output_tokens_details.reasoning_tokens,
    model,
    messageId: id,
  };
}

/** Counts are cumulative: of each, the last one that was said. Cached prompts are told apart. */
function readMessage(events: Json[]): RecordedUsage {
  const { id, model } = events.find((event) => event.message).message;
  const said: Json = {};
  for (const event of events) Object.assign(said, event.message?.usage, event.usage);
  const cacheWriteTokens = said.cache_creation_input_tokens ?? 0;
  const cacheHitTokens = said.cache_read_input_tokens ?? 0;
  return {
    inputTokens: said.input_tokens + cacheWriteTokens + cacheHitTokens,
    outputTokens: said.output_tokens,
    cacheWriteTokens,
    cacheHitTokens,
    reasoningTokens: null,
    model,
    messageId: id,
  };
}
