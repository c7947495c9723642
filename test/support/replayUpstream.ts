import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { createServer, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ANSWERS,
  type Answer,
  frameAnswer,
  WIRE_APIS,
  WIRE_PATHS,
  type WireApi,
} from './answers/index.js';

/**
 * A provider for tests: replies to each request with one of its answers, byte for byte. Which one,
 * and how it goes wrong, is said by the request's model, so that requests in flight at once do not
 * depend on each other:
 *
 *     replay:<answer>?chunkBytes=7&delayMs=2&firstDelayMs=50&dieAfterBytes=900&status=429&usage=never
 *     script:<name>      what `script()` was given
 *
 * Any other model gets the one called `text`.
 */
export interface ReplayUpstream {
  url: string;
  /** As they arrived, oldest first; at most `keepRequests`. */
  requests: ReceivedRequest[];
  /** Requests so far. */
  readonly calls: number;
  /** Requests whose connection went away before the answer was complete. */
  readonly aborted: number;
  script(name: string, answer: Script): void;
  /** Answers every request whose method and path (`GET /v1/responses/resp_1`) matches. */
  scriptPath(path: RegExp, answer: Script): void;
  /** Cuts every connection, as a provider that dies. */
  cut(): void;
  close(): Promise<void>;
}

export interface ReceivedRequest {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  /** Names and values as sent. */
  rawHeaders: string[];
  body: Buffer;
}

export type Script = (response: ServerResponse, request: ReceivedRequest) => void | Promise<void>;

export interface ReplayOptions {
  port?: number;
  /** Default 2,000. */
  keepRequests?: number;
  /** Default those of our own making. */
  answers?: readonly Answer[];
}

/** What a model's query may say. */
interface Directives {
  chunkBytes: number | null;
  /** Between chunks. */
  delayMs: number;
  /** Before the headers. */
  firstDelayMs: number;
  /** The connection is cut after these bytes of the body. */
  dieAfterBytes: number | null;
  /** An error in the API's format. */
  status: number | null;
  /** `asked`, as OpenAI does: the usage chunk only with `include_usage`; or `always`, `never`. */
  usage: string;
}

export async function startReplayUpstream(options: ReplayOptions = {}): Promise<ReplayUpstream> {
  const { port = 0, keepRequests = 2_000, answers = ANSWERS } = options;
  const scripts = new Map<string, Script>();
  const pathScripts: { path: RegExp; script: Script }[] = [];
  const requests: ReceivedRequest[] = [];
  const counts = { calls: 0, aborted: 0 };
  const server = createServer((request, response) => {
    counts.calls += 1;
    response.once('close', () => {
      if (!response.writableFinished) counts.aborted += 1;
    });
    reply(request, response).catch((error: Error) => {
      if (response.destroyed) return;
      response.writeHead(500).end(`replayUpstream: ${error.message}`);
    });
  });
  server.keepAliveTimeout = 60_000;

  async function reply(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const received = await readRequest(incoming);
    requests.push(received);
    if (requests.length > keepRequests) requests.shift();
    const line = `${received.method} ${received.path.split('?', 1)[0]}`;
    const scripted = pathScripts.findLast(({ path }) => path.test(line));
    if (scripted !== undefined) return scripted.script(response, received);
    if (received.method === 'GET') return replyModels(response);
    const api = WIRE_APIS.find((each) => received.path.split('?', 1)[0] === WIRE_PATHS[each]);
    const body = JSON.parse(received.body.toString());
    const model = String(body.model);
    if (model.startsWith('script:')) {
      const script = scripts.get(model.slice('script:'.length));
      if (script === undefined) throw new Error(`no script for ${model}`);
      return script(response, received);
    }
    if (api === undefined) throw new Error(`no API at ${received.path}`);
    await replay(response, { api, body, answers }, readDirectives(model));
  }

  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    get calls() {
      return counts.calls;
    },
    get aborted() {
      return counts.aborted;
    },
    script: (name, script) => void scripts.set(name, script),
    scriptPath: (path, script) => void pathScripts.push({ path, script }),
    cut: () => server.closeAllConnections(),
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

interface RequestBody {
  model?: unknown;
  stream?: unknown;
  stream_options?: { include_usage?: unknown };
}

async function replay(
  response: ServerResponse,
  { api, body, answers }: { api: WireApi; body: RequestBody; answers: readonly Answer[] },
  directives: Directives,
): Promise<void> {
  if (directives.firstDelayMs > 0) await sleep(directives.firstDelayMs);
  if (directives.status !== null) return replyError(response, api, directives.status);
  const streamed = body.stream === true;
  const name = /^replay:([^?]+)/.exec(String(body.model))?.[1] ?? 'text';
  const answer = answers.find(
    (each) => each.api === api && each.name === name && each.streamed === streamed,
  );
  if (answer === undefined) throw new Error(`no answer ${api} ${name}, streamed: ${streamed}`);
  const asked = body.stream_options?.include_usage === true;
  const withUsage = directives.usage === 'always' || (directives.usage === 'asked' && asked);
  const bytes = frameAnswer(withUsage ? answer : withoutUsage(answer));
  response.writeHead(200, {
    ...providerHeaders(api),
    'content-type': streamed ? 'text/event-stream; charset=utf-8' : 'application/json',
    ...(streamed ? { 'cache-control': 'no-cache' } : { 'content-length': bytes.length }),
  });
  await writePaced(response, bytes, directives);
}

async function writePaced(
  response: ServerResponse,
  bytes: Buffer,
  { chunkBytes, delayMs, dieAfterBytes }: Directives,
): Promise<void> {
  const end = dieAfterBytes === null ? bytes.length : Math.min(dieAfterBytes, bytes.length);
  const step = chunkBytes ?? bytes.length;
  for (let at = 0; at < end && !response.destroyed; at += step) {
    const flushed = response.write(bytes.subarray(at, Math.min(at + step, end)));
    if (!flushed) await drained(response);
    if (delayMs > 0) await sleep(delayMs);
  }
  if (dieAfterBytes === null) response.end();
  // What was written is flushed first: a reset may overtake it.
  else response.socket?.end(() => response.socket?.destroy());
}

/** Or gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done).off('close', done);
      resolve();
    };
    response.on('drain', done).on('close', done);
  });
}

/** As OpenAI answers a client that did not ask: no usage chunk, no `usage` in the others. */
function withoutUsage(answer: Answer): Answer {
  if (answer.api !== 'openai-chat' || !answer.streamed) return answer;
  const isUsageChunk = (payload: string) => JSON.parse(payload).choices.length === 0;
  const payloads = answer.payloads
    .filter((payload) => !isUsageChunk(payload))
    .map((payload) => payload.replace(',"usage":null', ''));
  return { ...answer, payloads };
}

function replyError(response: ServerResponse, api: WireApi, status: number): void {
  const message = `the provider refuses with ${status}`;
  const body =
    api === 'anthropic-messages'
      ? { type: 'error', error: { type: 'upstream_error', message } }
      : { error: { message, type: 'upstream_error', param: null, code: 'upstream_code' } };
  response.writeHead(status, {
    ...providerHeaders(api),
    'content-type': 'application/json',
    'retry-after': '7',
  });
  response.end(JSON.stringify(body));
}

function replyModels(response: ServerResponse): void {
  const data = [
    { id: 'gpt-4.1-nano', object: 'model', created: 1_744_321_707, owned_by: 'system' },
  ];
  response.writeHead(200, {
    ...providerHeaders('openai-chat'),
    'content-type': 'application/json',
  });
  response.end(JSON.stringify({ object: 'list', data }));
}

function providerHeaders(api: WireApi): Record<string, string | string[]> {
  const common = {
    'set-cookie': ['__cf_bm=cookie-of-the-provider; path=/'],
    'x-Mixed-Case': 'Kept',
  };
  return api === 'anthropic-messages'
    ? { ...common, 'request-id': 'req_of_anthropic', 'anthropic-ratelimit-requests-limit': '50' }
    : { ...common, 'x-request-id': 'req_of_openai', 'openai-processing-ms': '12' };
}

function readDirectives(model: string): Directives {
  const query = new URLSearchParams(model.split('?')[1] ?? '');
  const number = (name: string) => (query.has(name) ? Number(query.get(name)) : null);
  return {
    chunkBytes: number('chunkBytes'),
    delayMs: number('delayMs') ?? 0,
    firstDelayMs: number('firstDelayMs') ?? 0,
    dieAfterBytes: number('dieAfterBytes'),
    status: number('status'),
    usage: query.get('usage') ?? 'asked',
  };
}

async function readRequest(incoming: IncomingMessage): Promise<ReceivedRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return {
    method: incoming.method ?? '',
    path: incoming.url ?? '',
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    body: Buffer.concat(chunks),
  };
}
