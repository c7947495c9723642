import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { readRecordedUsage } from '../../support/recordedUsage.js';
import { listRecordings, type Recording } from '../../support/wireRecordings.js';

/** The official clients, calling a provider directly. */
export interface Clients {
  openai: OpenAI;
  anthropic: Anthropic;
}

export const user = { kilo_user_id: 'a user' };
export const messages = [{ role: 'user' as const, content: 'Hello there' }];
export const recordings = listRecordings().map(
  (each) => [`${each.api}/${each.name}`, each] as const,
);

export function openClients(url: string): Clients {
  return {
    openai: new OpenAI({ apiKey: 'k', baseURL: `${url}/v1`, maxRetries: 0 }),
    anthropic: new Anthropic({ apiKey: 'k', baseURL: url, maxRetries: 0 }),
  };
}

/** A call that is answered with the recording. */
export function call(recording: Recording, clients: Clients): PromiseLike<unknown> {
  const params = paramsOf(recording) as never;
  if (recording.api === 'openai-chat') return clients.openai.chat.completions.create(params);
  if (recording.api === 'openai-responses') return clients.openai.responses.create(params);
  return clients.anthropic.messages.create(params);
}

function paramsOf({ api, name, streamed }: Recording): object {
  const model = `replay:${name}`;
  if (api === 'openai-responses') return { model, input: 'Hello there', stream: streamed };
  const params = { model, messages, stream: streamed };
  if (api === 'anthropic-messages') return { ...params, max_tokens: 64 };
  return streamed ? { ...params, stream_options: { include_usage: true } } : params;
}

/** A whole answer, or every item of a stream. */
export async function collect(answer: unknown): Promise<unknown> {
  if (!(Symbol.asyncIterator in (answer as object))) return answer;
  const items: unknown[] = [];
  for await (const item of answer as AsyncIterable<unknown>) items.push(item);
  return items;
}

export function tokensOf(recording: Recording) {
  const usage = readRecordedUsage(recording);
  return {
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    cache_write_tokens: usage.cacheWriteTokens,
    cache_hit_tokens: usage.cacheHitTokens,
    model: usage.model,
    has_error: false,
  };
}
