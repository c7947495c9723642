import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import Anthropic from '@anthropic-ai/sdk';
import { ChatOpenAI } from '@langchain/openai';
import { Mistral } from '@mistralai/mistralai';
import { createOpenRouter } from '@openrouter/ai-sdk-provider';
import { OpenRouter } from '@openrouter/sdk';
import { jsonSchema, type LanguageModel, streamText, tool } from 'ai';
import OpenAI from 'openai';
import type { Target } from './gatewayClients.js';

Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false });

export interface SdkCall {
  say: string;
  signal?: AbortSignal;
}

/** What a client's user gets of a streamed answer. */
export interface Streamed {
  text: string;
  tools: { name: string; input: unknown }[];
}

/** A client as its users set it up: base URL and key, nothing else. */
export type Sdk = (target: Target, call: SdkCall) => Promise<Streamed>;

const MODEL = 'gpt-4.1-nano';
const CLAUDE = 'claude-sonnet-5';
const PARAMETERS = {
  type: 'object',
  properties: { a: { type: 'number' } },
  additionalProperties: false,
} as const;
const FUNCTION = { name: 'lookup', description: 'Looks up.', parameters: PARAMETERS };
const user = (content: string) => ({ role: 'user' as const, content });

export const SDKS: Readonly<Record<string, Sdk>> = {
  openai: async ({ url, key }, { say, signal }) => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
    const stream = client.chat.completions.stream(
      {
        model: MODEL,
        messages: [user(say)],
        tools: [{ type: 'function', function: FUNCTION }],
      },
      signal ? { signal } : {},
    );
    const message = await stream.finalMessage();
    const tools = (message.tool_calls ?? []).flatMap((call) =>
      call.type === 'function'
        ? [{ name: call.function.name, input: JSON.parse(call.function.arguments) }]
        : [],
    );
    return { text: message.content ?? '', tools };
  },

  'openai, responses': async ({ url, key }, { say, signal }) => {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
    const stream = client.responses.stream(
      { model: MODEL, input: say, tools: [{ type: 'function', strict: false, ...FUNCTION }] },
      signal ? { signal } : {},
    );
    const { output, output_text: text } = await stream.finalResponse();
    const tools = output.flatMap((item) =>
      item.type === 'function_call' ? [{ name: item.name, input: JSON.parse(item.arguments) }] : [],
    );
    return { text, tools };
  },

  '@anthropic-ai/sdk': async ({ url, key }, { say, signal }) => {
    const client = new Anthropic({ baseURL: url, apiKey: key });
    const stream = client.messages.stream(
      {
        model: CLAUDE,
        max_tokens: 100,
        messages: [user(say)],
        tools: [{ name: 'lookup', input_schema: PARAMETERS }],
      },
      signal ? { signal } : {},
    );
    const { content } = await stream.finalMessage();
    return {
      text: content.map((block) => (block.type === 'text' ? block.text : '')).join(''),
      tools: content.flatMap((block) =>
        block.type === 'tool_use' ? [{ name: block.name, input: block.input }] : [],
      ),
    };
  },

  'ai with @ai-sdk/openai': ({ url, key }, call) =>
    callAi(createOpenAI({ baseURL: `${url}/v1`, apiKey: key }).chat(MODEL), call),

  'ai with @ai-sdk/openai-compatible': ({ url, key }, call) => {
    const provider = createOpenAICompatible({ name: 'own', baseURL: `${url}/v1`, apiKey: key });
    return callAi(provider(MODEL), call);
  },

  'ai with @ai-sdk/anthropic': ({ url, key }, call) =>
    callAi(createAnthropic({ baseURL: `${url}/v1`, apiKey: key })(CLAUDE), call),

  'ai with @openrouter/ai-sdk-provider': ({ url, key }, call) => {
    const provider = createOpenRouter({ baseURL: `${url}/v1`, apiKey: key });
    return callAi(provider.chat(MODEL), call);
  },

  '@openrouter/sdk': async ({ url, key }, { say, signal }) => {
    const client = new OpenRouter({ serverURL: `${url}/v1`, apiKey: key });
    const stream = await client.chat.send(
      {
        chatRequest: {
          model: MODEL,
          stream: true,
          messages: [user(say)],
          tools: [{ type: 'function', function: FUNCTION }],
        },
      },
      signal ? { fetchOptions: { signal } } : {},
    );
    const seen = new Seen();
    for await (const { choices } of stream as AsyncIterable<OpenRouterChunk>) {
      const { content, toolCalls } = choices[0]?.delta ?? {};
      seen.add(content, toolCalls);
    }
    return seen.all();
  },

  '@mistralai/mistralai': async ({ url, key }, { say, signal }) => {
    const client = new Mistral({ serverURL: url, apiKey: key });
    const stream = await client.chat.stream(
      {
        model: MODEL,
        messages: [user(say)],
        tools: [{ type: 'function', function: FUNCTION }],
      },
      signal ? { fetchOptions: { signal } } : {},
    );
    const seen = new Seen();
    for await (const { data } of stream) {
      const { content, toolCalls } = data.choices[0]?.delta ?? {};
      seen.add(typeof content === 'string' ? content : null, toolCalls);
    }
    return seen.all();
  },

  '@langchain/openai': async ({ url, key }, { say, signal }) => {
    const model = new ChatOpenAI({
      model: MODEL,
      apiKey: key,
      configuration: { baseURL: `${url}/v1` },
    }).bindTools([{ type: 'function', function: FUNCTION }]);
    const chunks = await model.stream(say, signal ? { signal } : {});
    const seen = new Seen();
    for await (const { text, tool_call_chunks: calls } of chunks) {
      seen.add(
        text,
        calls?.map(({ name, args }) => ({
          function: { name: name ?? '', arguments: args ?? '' },
        })),
      );
    }
    return seen.all();
  },
};

interface ToolCallPart {
  function?: { name?: string | undefined; arguments?: unknown } | undefined;
}

interface OpenRouterChunk {
  choices: {
    delta?: { content?: string | null; toolCalls?: ToolCallPart[] };
  }[];
}

/** Text and the parts of one tool call, put together. */
class Seen {
  #text = '';
  #name = '';
  #input = '';

  add(text: string | null | undefined, calls: readonly ToolCallPart[] | null | undefined): void {
    this.#text += text ?? '';
    for (const { function: part } of calls ?? []) {
      this.#name += part?.name ?? '';
      const { arguments: input = '' } = part ?? {};
      this.#input += typeof input === 'string' ? input : JSON.stringify(input);
    }
  }

  all(): Streamed {
    const tools = this.#name === '' ? [] : [{ name: this.#name, input: JSON.parse(this.#input) }];
    return { text: this.#text, tools };
  }
}

async function callAi(model: LanguageModel, { say, signal }: SdkCall): Promise<Streamed> {
  const result = streamText({
    model,
    prompt: say,
    tools: { lookup: tool({ inputSchema: jsonSchema<object>(PARAMETERS) }) },
    onError: () => {},
    ...(signal ? { abortSignal: signal } : {}),
  });
  const streamed: Streamed = { text: '', tools: [] };
  for await (const part of result.fullStream) {
    if (part.type === 'text-delta') streamed.text += part.text;
    if (part.type === 'tool-call') streamed.tools.push({ name: part.toolName, input: part.input });
    if (part.type === 'error') throw part.error;
    if (part.type === 'abort') throw new Error('aborted');
  }
  return streamed;
}
