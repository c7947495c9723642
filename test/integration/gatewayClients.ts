import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import Anthropic from '@anthropic-ai/sdk';
import { generateText, jsonSchema, streamText, type ToolSet, tool } from 'ai';
import OpenAI from 'openai';
import type { WireApi } from '../support/answers/index.js';

// Its warnings are about models it does not know, which the names of answers are.
Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false });

/** Where a client sends its requests, and with which key. */
export interface Target {
  url: string;
  key: string;
}

export interface Call {
  api: WireApi;
  model: string;
  streamed: boolean;
  withTools?: boolean;
  /** Of a chat stream. */
  includeUsage?: boolean;
  signal?: AbortSignal;
}

/** Everything a client's user gets to see. */
export interface Seen {
  /** Events of a stream, or the one whole answer. */
  events: unknown[];
  error: unknown;
}

const PARAMETERS = {
  type: 'object',
  properties: { value: { type: 'string' } },
  additionalProperties: false,
} as const;
const TOOL = tool({ inputSchema: jsonSchema<object>(PARAMETERS) });
const MESSAGES = [{ role: 'user' as const, content: 'Hello' }];

/** The providers' own packages. */
export async function callOfficialClient(target: Target, call: Call): Promise<Seen> {
  return call.api === 'anthropic-messages' ? callAnthropic(target, call) : callOpenAi(target, call);
}

async function callOpenAi({ url, key }: Target, call: Call): Promise<Seen> {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
  const options = call.signal === undefined ? {} : { signal: call.signal };
  const { model } = call;
  if (call.api === 'openai-responses') {
    const tools = call.withTools
      ? [{ type: 'function' as const, name: 'test', parameters: PARAMETERS, strict: false }]
      : [];
    return see(() =>
      client.responses.create({ model, input: 'Hello', tools, stream: call.streamed }, options),
    );
  }
  const tools = call.withTools
    ? {
        tools: [{ type: 'function' as const, function: { name: 'test', parameters: PARAMETERS } }],
      }
    : {};
  const asked = call.includeUsage ? { stream_options: { include_usage: true } } : {};
  return see(() =>
    client.chat.completions.create(
      { model, messages: MESSAGES, stream: call.streamed, ...tools, ...asked },
      options,
    ),
  );
}

async function callAnthropic({ url, key }: Target, call: Call): Promise<Seen> {
  const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
  const tools = call.withTools ? { tools: [{ name: 'test', input_schema: PARAMETERS }] } : {};
  return see(() =>
    client.messages.create(
      {
        model: call.model,
        max_tokens: 1_000,
        messages: MESSAGES,
        stream: call.streamed,
        ...tools,
      },
      call.signal === undefined ? {} : { signal: call.signal },
    ),
  );
}

async function see(send: () => Promise<unknown>): Promise<Seen> {
  const events: unknown[] = [];
  try {
    const answer = await send();
    if (isStream(answer)) for await (const event of answer) events.push(event);
    else events.push(answer);
    return { events, error: null };
  } catch (error) {
    return { events, error: describeError(error) };
  }
}

/** The Vercel AI SDK. */
export async function callAiSdk({ url, key }: Target, call: Call): Promise<Seen> {
  const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
  const model = {
    'openai-chat': () => openai.chat(call.model),
    'openai-responses': () => openai.responses(call.model),
    'anthropic-messages': () => createAnthropic({ baseURL: `${url}/v1`, apiKey: key })(call.model),
  }[call.api]();
  const request = {
    model,
    prompt: 'Hello',
    maxRetries: 0,
    tools: (call.withTools ? { test: TOOL } : {}) as ToolSet,
    abortSignal: call.signal ?? new AbortController().signal,
  };
  const events: unknown[] = [];
  try {
    if (!call.streamed) {
      const { content, finishReason, usage, response } = await generateText(request);
      events.push({ content, finishReason, usage, body: response.body });
      return { events: events.map(withoutClock), error: null };
    }
    for await (const part of streamText({ ...request, onError: () => {} }).fullStream) {
      events.push(part);
    }
    return { events: events.map(withoutClock), error: null };
  } catch (error) {
    return { events: events.map(withoutClock), error: describeError(error) };
  }
}

function isStream(answer: unknown): answer is AsyncIterable<unknown> {
  return typeof answer === 'object' && answer !== null && Symbol.asyncIterator in answer;
}

/** What a program can tell errors apart by. */
function describeError(error: unknown) {
  const { name, message, status, type, code, error: body } = error as Record<string, unknown>;
  return { name, message, status, type, code, body };
}

/** Without ids that the client makes up, times, and headers, which are compared elsewhere. */
function withoutClock(event: unknown): unknown {
  return JSON.parse(
    JSON.stringify(event, (name, value) => {
      if (name === 'timestamp' || name === 'headers' || name === 'stack') return undefined;
      if (
        /^(id|toolCallId)$/.test(name) &&
        typeof value === 'string' &&
        /^aitxt-|^[A-Za-z0-9]{16}$/.test(value)
      ) {
        return 'made up';
      }
      return value instanceof Error ? describeError(value) : value;
    }),
  );
}
