export const WIRE_APIS = ['openai-chat', 'openai-responses', 'anthropic-messages'] as const;
export type WireApi = (typeof WIRE_APIS)[number];

export const WIRE_PATHS = {
  'openai-chat': '/v1/chat/completions',
  'openai-responses': '/v1/responses',
  'anthropic-messages': '/v1/messages',
} as const satisfies Record<WireApi, string>;

/** What a provider answers, and what an observer must read of it. */
export interface Answer {
  api: WireApi;
  /** With `streamed` unique within its API. */
  name: string;
  streamed: boolean;
  /** Streamed: one event's payload each. Else: the body alone. */
  payloads: string[];
  usage: AnswerUsage;
}

export interface AnswerUsage {
  /** Every prompt token, cached ones included. */
  inputTokens: number;
  outputTokens: number;
  cacheWriteTokens: number;
  cacheHitTokens: number;
  /** Null where the answer does not say. */
  reasoningTokens: number | null;
  model: string;
  messageId: string;
}

/** The bytes on the wire: as they are, or framed as server-sent events. */
export function frameAnswer({ api, streamed, payloads }: Answer): Buffer {
  if (!streamed) return Buffer.from(payloads.join(''));
  const events = payloads.map((payload) => frameEvent(api, payload));
  if (api === 'openai-chat') events.push('data: [DONE]\n\n');
  return Buffer.from(events.join(''));
}

function frameEvent(api: WireApi, payload: string): string {
  if (api === 'openai-chat') return `data: ${payload}\n\n`;
  return `event: ${JSON.parse(payload).type}\ndata: ${payload}\n\n`;
}
