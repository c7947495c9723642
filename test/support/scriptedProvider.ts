import type { ServerResponse } from 'node:http';
import type { ReplayUpstream } from './replayUpstream.js';
import { type Answer, type Script, WRITERS } from './scriptedAnswers.js';

/**
 * A provider that speaks chat completions, responses and messages as OpenAI and Anthropic do, by a
 * mark in the last user message that has one:
 *
 *     [[tool COMMAND]]  calls a tool, a shell with COMMAND where there is one; then says that it is done
 *     [[busy NAME]]     refuses the first request of that name with 429
 *     [[slow]]          goes on until the connection closes
 *     [[use N]]         uses N tokens of output, within the request's limit, for each choice, and
 *                       those of the prompt that its bytes have at most
 *
 * Anything else is answered with a few words. A response in the background is queued, and whole when it
 * is asked for.
 */
export function scriptProvider(upstream: ReplayUpstream): void {
  const refused = new Set<string>();
  const inBackground = new Map<string, object>();
  upstream.scriptPath(/^GET \/v1\/responses\/[^/]+$/, (response, { path }) => {
    const id = path.split('?', 1)[0]?.split('/').at(-1) ?? '';
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(inBackground.get(id)));
  });
  const paths = /^POST \/v1\/(chat\/completions|responses|messages)$/;
  upstream.scriptPath(paths, async (response, { body, path }) => {
    const request = JSON.parse(String(body)) as Body;
    const api = path.startsWith('/v1/chat')
      ? 'chat'
      : /responses/.test(path)
        ? 'responses'
        : 'messages';
    const { mark, argument, isAnswered } = readMark(request.messages ?? toItems(request.input));
    if (mark === 'busy' && !refused.has(argument)) {
      refused.add(argument);
      refuse(response, api === 'messages');
      return;
    }
    const tool = mark === 'tool' && !isAnswered ? findTool(request.tools ?? [], argument) : null;
    const script: Script = {
      model: request.model,
      asksUsage: asksUsage(request),
      tool,
      ...(mark === 'use' ? { tokens: useTokens(request, Number(argument), String(body)) } : {}),
    };
    const answer = WRITERS[api](script);
    if (request.background === true) {
      const id = `resp_background_${inBackground.size}`;
      inBackground.set(id, { ...answer.whole, id });
      const queued = { ...answer.whole, id, status: 'queued', output: [], usage: null };
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(queued));
      return;
    }
    if (request.stream !== true) {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer.whole));
      return;
    }
    await stream(response, answer, mark === 'slow');
  });
}

interface Item {
  role?: string;
  type?: string;
  content?: unknown;
}

interface Tool {
  name?: string;
  input_schema?: Schema;
  parameters?: Schema;
  function?: { name: string; parameters?: Schema };
}

interface Schema {
  properties?: Record<string, { type?: unknown }>;
}

interface Body {
  model: string;
  stream?: boolean;
  background?: boolean;
  stream_options?: { include_usage?: boolean };
  messages?: Item[];
  input?: string | Item[];
  tools?: Tool[];
  n?: number;
  max_tokens?: number | null;
  max_completion_tokens?: number | null;
  max_output_tokens?: number | null;
}

const SHELLS = /^(bash|shell|exec_command|shell_command|local_shell|run_shell_command)$/i;

function asksUsage({ stream_options: options }: Body): boolean {
  return options?.include_usage === true;
}

function useTokens(request: Body, output: number, body: string) {
  const { max_tokens: old, max_completion_tokens: completion, max_output_tokens: most } = request;
  const limit = completion ?? most ?? old ?? Number.POSITIVE_INFINITY;
  return {
    input: Buffer.byteLength(body),
    output: Math.min(output, limit) * (request.n ?? 1),
  };
}

function toItems(input: Body['input']): Item[] {
  return typeof input === 'string' ? [{ role: 'user', content: input }] : (input ?? []);
}

function readMark(items: readonly Item[]) {
  let isAnswered = false;
  for (const item of items.toReversed()) {
    if (isToolResult(item)) isAnswered = true;
    const found = item.role === 'user' && /\[\[(\w+) ?([^\]]*)\]\]/.exec(textOf(item.content));
    if (found) return { mark: found[1] ?? '', argument: found[2] ?? '', isAnswered };
  }
  return { mark: '', argument: '', isAnswered };
}

function isToolResult({ role, type, content }: Item): boolean {
  if (role === 'tool' || /_output$/.test(type ?? '')) return true;
  const parts = Array.isArray(content) ? (content as Item[]) : [];
  return parts.some((part) => part.type === 'tool_result');
}

function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content.map((part: { text?: string }) => part.text ?? '').join('');
}

/** A shell with its command where there is one, else the first tool. */
function findTool(tools: readonly Tool[], command: string): Script['tool'] {
  const named = tools.map((tool) => ({
    name: tool.function?.name ?? tool.name ?? '',
    properties: (tool.function?.parameters ?? tool.parameters ?? tool.input_schema)?.properties,
  }));
  const shell = named.find(({ name }) => SHELLS.test(name));
  const [first] = named;
  if (shell === undefined)
    return first === undefined ? null : { name: first.name, input: { a: 1 } };
  const { cmd, command: property, description } = shell.properties ?? {};
  const asList = property?.type === 'array' ? ['bash', '-lc', command] : command;
  return {
    name: shell.name,
    input: {
      ...(cmd === undefined ? { command: asList } : { cmd: command }),
      ...(description === undefined ? {} : { description: 'Writes a file' }),
    },
  };
}

function refuse(response: ServerResponse, isAnthropic: boolean): void {
  const body = isAnthropic
    ? { type: 'error', error: { type: 'rate_limit_error', message: 'busy' } }
    : { error: { message: 'busy', type: 'requests', param: null, code: 'rate_limit_exceeded' } };
  response.writeHead(429, { 'content-type': 'application/json', 'retry-after-ms': '20' });
  response.end(JSON.stringify(body));
}

async function stream(
  response: ServerResponse,
  { opening, word, events }: Answer,
  isEndless: boolean,
): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  if (!isEndless) {
    response.end([...opening, ...events].join(''));
    return;
  }
  response.write(opening.join(''));
  while (!response.destroyed) {
    response.write(word);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
