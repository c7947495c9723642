import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { type Answer, findAnswer } from '../../support/answers/index.js';

/** The official clients, calling a provider directly. */
export interface Clients {
  openai: OpenAI;
  anthropic: Anthropic;
}

export const user = { kilo_user_id: 'a user' };
export const messages = [{ role: 'user' as const, content: 'Hello there' }];

export function openClients(url: string): Clients {
  return {
    openai: new OpenAI({ apiKey: 'k', baseURL: `${url}/v1`, maxRetries: 0 }),
    anthropic: new Anthropic({ apiKey: 'k', baseURL: url, maxRetries: 0 }),
  };
}

/** A call that gets the answer. */
export function call(answer: Answer, clients: Clients): PromiseLike<unknown> {
  const params = paramsOf(answer) as never;
  if (answer.api === 'openai-chat') return clients.openai.chat.completions.create(params);
  if (answer.api === 'openai-responses') return clients.openai.responses.create(params);
  return clients.anthropic.messages.create(params);
}

function paramsOf({ api, name, streamed }: Answer): object {
  const model = `replay:${name}`;
  if (api === 'openai-responses') return { model, input: 'Hello there', stream: streamed };
  const params = { model, messages, stream: streamed };
  if (api === 'anthropic-messages') return { ...params, max_tokens: 64 };
  return streamed ? { ...params, stream_options: { include_usage: true } } : params;
}

/** A whole answer, or every item of a stream. */
export async function collect(made: unknown): Promise<unknown> {
  if (!(Symbol.asyncIterator in (made as object))) return made;
  const items: unknown[] = [];
  for await (const item of made as AsyncIterable<unknown>) items.push(item);
  return items;
}

/** Prompt tokens that the beginning of a message's stream tells. */
export function promptAtStart(name: string): number {
  const [start = ''] = findAnswer('anthropic-messages', name, true).payloads;
  return JSON.parse(start).message.usage.input_tokens;
}

export function tokensOf({ usage }: Answer) {
  return {
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    cache_write_tokens: usage.cacheWriteTokens,
    cache_hit_tokens: usage.cacheHitTokens,
    model: usage.model,
    has_error: false,
  };
}
