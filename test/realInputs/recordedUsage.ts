import type { AnswerUsage, WireApi } from '../support/answers/index.js';

// biome-ignore lint/suspicious/noExplicitAny: foreign JSON.
type Json = any;

/** What a recording says of its usage, read plainly: the whole of it at once, no stream. */
export function readRecordedUsage(
  api: WireApi,
  streamed: boolean,
  texts: readonly string[],
): AnswerUsage {
  const payloads: Json[] = texts.map((text) => JSON.parse(text));
  switch (api) {
    case 'openai-chat':
      return readChat(payloads.findLast((chunk) => chunk.usage));
    case 'openai-responses':
      return readResponse(
        streamed ? payloads.findLast((event) => event.response?.usage).response : payloads[0],
      );
    case 'anthropic-messages':
      return readMessage(streamed ? payloads : [{ message: payloads[0] }]);
  }
}

function readChat({ id, model, usage }: Json): AnswerUsage {
  return {
    inputTokens: usage.prompt_tokens,
    outputTokens: usage.completion_tokens,
    cacheWriteTokens: 0,
    cacheHitTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    reasoningTokens: usage.completion_tokens_details?.reasoning_tokens ?? null,
    model,
    messageId: id,
  };
}

function readResponse({ id, model, usage }: Json): AnswerUsage {
  return {
    inputTokens: usage.input_tokens,
    outputTokens: usage.output_tokens,
    cacheWriteTokens: usage.input_tokens_details?.cache_write_tokens ?? 0,
    cacheHitTokens: usage.input_tokens_details?.cached_tokens ?? 0,
    reasoningTokens: usage.output_tokens_details?.reasoning_tokens ?? null,
    model,
    messageId: id,
  };
}

/**
 * Counts are cumulative: of each, the last one that was said since the message began. Cached prompts
 * are told apart; what compaction took is in none of the totals.
 */
function readMessage(events: Json[]): AnswerUsage {
  const begun = events.slice(events.findLastIndex((event) => event.message));
  const said: Json = {};
  for (const event of begun) {
    for (const [name, count] of Object.entries({ ...event.message?.usage, ...event.usage })) {
      if (count !== null) said[name] = count;
    }
  }
  const { id, model } = begun[0].message;
  const compactions = (said.iterations ?? []).filter((each: Json) => each.type === 'compaction');
  const sum = (name: string) =>
    [said, ...compactions].reduce((total: number, each: Json) => total + (each[name] ?? 0), 0);
  const cacheWriteTokens = sum('cache_creation_input_tokens');
  const cacheHitTokens = sum('cache_read_input_tokens');
  return {
    inputTokens: sum('input_tokens') + cacheWriteTokens + cacheHitTokens,
    outputTokens: sum('output_tokens'),
    cacheWriteTokens,
    cacheHitTokens,
    reasoningTokens: said.output_tokens_details?.thinking_tokens ?? null,
    model,
    messageId: id,
  };
}
