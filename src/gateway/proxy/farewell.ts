import type { Api } from './apis.js';
import type { Refusal } from './refusal.js';

/** The last event of a stream that the gateway cuts: an error in the words of its API. */
export function toLastEvent({ format }: Pick<Api, 'format'>, refusal: Refusal): Buffer {
  if (format === 'anthropic-messages') {
    return Buffer.from(`event: error\ndata: ${JSON.stringify(refusal.body('anthropic'))}\n\n`);
  }
  const { error } = refusal.body('openai') as { error: Record<string, unknown> };
  if (format === 'openai-responses') {
    const event = { ...error, type: 'error' };
    return Buffer.from(`event: error\ndata: ${JSON.stringify(event)}\n\n`);
  }
  return Buffer.from(`data: ${JSON.stringify({ error })}\n\n`);
}
