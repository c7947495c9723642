import type { ServerResponse } from 'node:http';
import type { ReplayUpstream } from './replayUpstream.js';

/**
 * A provider that speaks chat completions and messages as OpenAI and Anthropic do, by what the last
 * user message says: `tool` calls the first tool, `busy` is refused once with 429, `slow` goes on
 * until the connection closes, anything else is answered with a few words.
 */
export function scriptProvider(upstream: ReplayUpstream): void {
  const refused = new Set<string>();
  upstream.scriptPath(/^POST \/v1\/(chat\/completions|messages)$/, async (response, request) => {
    const body = JSON.parse(String(request.body)) as Body;
    const isChat = request.path.startsWith('/v1/chat');
    const said = textOf(body.messages.findLast(({ role }) => role === 'user')?.content);
    if (said.startsWith('busy') && !refused.has(said)) {
      refused.add(said);
      return refuse(response, isChat);
    }
    const parts = isChat ? chatAnswer(body, said) : messagesAnswer(body, said);
    if (body.stream !== true) {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(parts.whole));
      return;
    }
    await stream(response, parts.events, said.startsWith('slow'));
  });
}

interface Body {
  model: string;
  stream?: boolean;
  stream_options?: { include_usage?: boolean };
  messages: { role: string; content: unknown }[];
  tools?: { name?: string; function?: { name: string } }[];
}

interface Answer {
  whole: object;
  events: string[];
}

const WORDS = ['Good', ' morning', ', world', '.'];

function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content.map((part: { text?: string }) => part.text ?? '').join('');
}

function refuse(response: ServerResponse, isChat: boolean): void {
  const body = isChat
    ? { error: { message: 'busy', type: 'requests', param: null, code: 'rate_limit_exceeded' } }
    : { type: 'error', error: { type: 'rate_limit_error', message: 'busy' } };
  response.writeHead(429, { 'content-type': 'application/json', 'retry-after-ms': '20' });
  response.end(JSON.stringify(body));
}

async function stream(
  response: ServerResponse,
  events: readonly string[],
  isEndless: boolean,
): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const [first = '', second = ''] = events;
  if (!isEndless) {
    for (const event of events) response.write(event);
    response.end();
    return;
  }
  response.write(first);
  while (!response.destroyed) {
    response.write(second);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function chatAnswer({ model, tools, stream_options }: Body, said: string): Answer {
  const asked = stream_options?.include_usage === true;
  const usage = { prompt_tokens: 9, completion_tokens: 4, total_tokens: 13 };
  const base = { id: 'chatcmpl-1', created: 1_764_000_000, model, system_fingerprint: 'fp' };
  const name = tools?.[0]?.function?.name;
  const call =
    said.startsWith('tool') && name !== undefined ? { name, arguments: '{"a":1}' } : null;
  const calls = call && [{ id: 'call_1', type: 'function', function: call }];
  const finish = call ? 'tool_calls' : 'stop';
  const content = call ? null : WORDS.join('');
  const message = {
    role: 'assistant',
    content,
    refusal: null,
    ...(calls && { tool_calls: calls }),
  };
  const chunk = (delta: object, finishReason: string | null = null) =>
    toEvent(null, {
      ...base,
      object: 'chat.completion.chunk',
      choices: [{ index: 0, delta, logprobs: null, finish_reason: finishReason }],
      ...(asked ? { usage: null } : {}),
    });
  const middle = calls
    ? [chunk({ tool_calls: calls.map((each) => ({ index: 0, ...each })) })]
    : WORDS.map((word) => chunk({ content: word }));
  return {
    whole: {
      ...base,
      object: 'chat.completion',
      choices: [{ index: 0, message, logprobs: null, finish_reason: finish }],
      usage,
    },
    events: [
      chunk({ role: 'assistant', content: '' }),
      ...middle,
      chunk({}, finish),
      ...(asked
        ? [toEvent(null, { ...base, object: 'chat.completion.chunk', choices: [], usage })]
        : []),
      'data: [DONE]\n\n',
    ],
  };
}

function messagesAnswer({ model, tools }: Body, said: string): Answer {
  const name = tools?.[0]?.name;
  const isCall = said.startsWith('tool') && name !== undefined;
  const block = isCall
    ? { type: 'tool_use', id: 'toolu_1', name, input: {} }
    : { type: 'text', text: '' };
  const stopReason = isCall ? 'tool_use' : 'end_turn';
  const usage = { input_tokens: 9, output_tokens: 4 };
  const message = { id: 'msg_1', type: 'message', role: 'assistant', model, stop_sequence: null };
  const whole = isCall ? { ...block, input: { a: 1 } } : { ...block, text: WORDS.join('') };
  const deltas = isCall
    ? [{ type: 'input_json_delta', partial_json: '{"a":1}' }]
    : WORDS.map((text) => ({ type: 'text_delta', text }));
  const event = (type: string, more: object) => toEvent(type, { type, ...more });
  return {
    whole: { ...message, content: [whole], stop_reason: stopReason, usage },
    events: [
      event('message_start', { message: { ...message, content: [], stop_reason: null, usage } }),
      ...(isCall ? [] : [event('ping', {})]),
      event('content_block_start', { index: 0, content_block: block }),
      ...deltas.map((delta) => event('content_block_delta', { index: 0, delta })),
      event('content_block_stop', { index: 0 }),
      event('message_delta', {
        delta: { stop_reason: stopReason, stop_sequence: null },
        usage: { output_tokens: 4 },
      }),
      event('message_stop', {}),
    ],
  };
}

function toEvent(name: string | null, payload: object): string {
  return `${name === null ? '' : `event: ${name}\n`}data: ${JSON.stringify(payload)}\n\n`;
}
