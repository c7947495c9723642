import { isErrorStatus } from '../metering/index.js';
import {
  createStreamGate,
  createUsageReader,
  isEventStream,
  type PreparedRequest,
  prepareRequest,
  tellsUsageUnasked,
  type UsageReader,
  type WireFormat,
} from '../processUsage/index.js';
import { type CallOutcome, Exchange, emptyReading } from './exchange.js';
import type { UsageOptions, UsageTarget } from './types.js';
import { isAbort } from './withUsage.js';

type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** `host` and `request` are read from each request. */
export type MeteredFetchOptions = Omit<UsageOptions, 'request' | 'upstreamHost'> & {
  /** Default: the global one. */
  fetch?: Fetch;
};

const PATHS: readonly [suffix: string, format: WireFormat][] = [
  ['/chat/completions', 'openai-chat'],
  ['/responses', 'openai-responses'],
  ['/messages', 'anthropic-messages'],
];

/**
 * A `fetch` for an SDK's client (`new OpenAI({ fetch })`): records every call that has usage, in
 * whatever way the SDK makes it (stream helpers, tool runners, other SDKs built on it). A chat
 * stream is asked for its usage, and the extra chunk hidden, as the gateway does; the end of a
 * stream waits until its usage is durable. Other requests pass.
 */
export function meteredFetch(target: UsageTarget, options: MeteredFetchOptions): Fetch {
  const { fetch = globalThis.fetch, ...usage } = options;
  return async (input, init) => {
    const request = await readRequest(input, init);
    if (request === null) return fetch(input, init);
    const { prepared, url } = request;
    const exchange = new Exchange(target, { ...usage, upstreamHost: url.hostname }, prepared);
    const { format, streamed } = prepared;
    let response: Response;
    try {
      response = await fetch(...withBody(input, init, prepared));
    } catch (error) {
      const isCancelled = isAbort(error);
      // What was cut before it was answered may have been charged all the same.
      const reading = isCancelled ? emptyReading(format) : null;
      throw await exchange.fail(error, { format, streamed, reading, isCancelled });
    }
    return meterResponse(response, prepared, exchange);
  };
}

/** Null: nothing that has usage. */
async function readRequest(
  input: string | URL | Request,
  init: RequestInit | undefined,
): Promise<{ prepared: PreparedRequest; url: URL } | null> {
  const url = new URL(input instanceof Request ? input.url : input);
  const format = PATHS.find(([suffix]) => url.pathname.endsWith(suffix))?.[1];
  const method = init?.method ?? (input instanceof Request ? input.method : 'GET');
  if (format === undefined || method.toUpperCase() !== 'POST') return null;
  const given = init?.body;
  let body: Buffer;
  if (typeof given === 'string') body = Buffer.from(given);
  else if (given instanceof Uint8Array) body = Buffer.from(given);
  else if (given == null && input instanceof Request) {
    body = Buffer.from(await input.clone().arrayBuffer());
  } else return null;
  try {
    const prepared = prepareRequest(format, body);
    if (!tellsUsageUnasked(url.hostname)) return { prepared, url };
    return { prepared: { ...prepared, body, hideUsageChunk: false }, url };
  } catch {
    // Not JSON: the provider says so better.
    return null;
  }
}

function withBody(
  input: string | URL | Request,
  init: RequestInit | undefined,
  { body, hideUsageChunk }: PreparedRequest,
): [string | URL | Request, RequestInit | undefined] {
  if (!hideUsageChunk) return [input, init];
  const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : {}));
  headers.delete('content-length');
  return [input, { ...init, headers, body: new Uint8Array(body) }];
}

async function meterResponse(
  response: Response,
  prepared: PreparedRequest,
  exchange: Exchange,
): Promise<Response> {
  const { format } = prepared;
  const statusCode = response.status;
  const { streamed } = prepared;
  const refused = { format, streamed, reading: null, statusCode };
  if (response.body === null) {
    await exchange.settle(refused);
    return response;
  }
  if (isErrorStatus(statusCode)) {
    try {
      await exchange.settle(refused);
    } catch (error) {
      return withFailingBody(response, error);
    }
    return response;
  }
  const { headers } = response;
  // Some servers do not say that it is one: what they were asked for beside it is taken out all the same.
  const mayBeStream = prepared.hideUsageChunk && !headers.has('content-length');
  const isTyped = isEventStream(headers.get('content-type'));
  const isStream = isTyped || mayBeStream;
  // One that is not said to be a stream is told by how it begins.
  const meter = new Meter(createUsageReader(format, { streamed: isTyped }), exchange, {
    format,
    streamed: isStream,
    statusCode,
  });
  if (isStream) return withNewBody(response, gateStream(response.body, prepared, meter));
  try {
    return withNewBody(response, await readWhole(response, meter));
  } catch (error) {
    return withFailingBody(response, error);
  }
}

/**
 * What went wrong after the provider had answered comes with the body, as it does without a meter: an
 * SDK takes a rejected `fetch` for a lost connection, and has the provider answer, and charge, again.
 */
function withFailingBody(response: Response, error: unknown): Response {
  return withNewBody(response, new ReadableStream({ start: (body) => body.error(error) }));
}

function withNewBody(
  response: Response,
  body: ConstructorParameters<typeof Response>[0],
): Response {
  const { status, statusText, headers, url } = response;
  return Object.defineProperty(new Response(body, { status, statusText, headers }), 'url', {
    value: url,
  });
}

type KnownOutcome = Pick<CallOutcome, 'format' | 'streamed' | 'statusCode'>;

class Meter {
  readonly #reader: UsageReader;
  readonly #exchange: Exchange;
  readonly #known: KnownOutcome;

  constructor(reader: UsageReader, exchange: Exchange, known: KnownOutcome) {
    this.#reader = reader;
    this.#exchange = exchange;
    this.#known = known;
  }

  read(bytes: Uint8Array): void {
    this.#reader.push(bytes);
    if (this.#reader.sawFirstToken) this.#exchange.noteFirstToken();
  }

  settle(more: { isCancelled?: boolean } = {}, answer?: unknown): Promise<void> {
    return this.#exchange.settle({ ...this.#known, reading: this.#reader.end(), ...more }, answer);
  }

  fail(error: unknown): Promise<unknown> {
    const isCancelled = isAbort(error);
    return this.#exchange.fail(error, { ...this.#known, reading: this.#reader.end(), isCancelled });
  }
}

async function readWhole(response: Response, meter: Meter): Promise<Uint8Array<ArrayBuffer>> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw await meter.fail(error);
  }
  meter.read(bytes);
  await meter.settle({}, bytes);
  return bytes;
}

function gateStream(
  source: ReadableStream<Uint8Array>,
  { format, hideUsageChunk }: PreparedRequest,
  meter: Meter,
): ReadableStream<Uint8Array> {
  const gate = createStreamGate(format, { hideUsageChunk });
  const upstream = source.getReader();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      for (;;) {
        let next: Awaited<ReturnType<typeof upstream.read>>;
        try {
          next = await upstream.read();
        } catch (error) {
          throw await meter.fail(error);
        }
        if (next.done) {
          await meter.settle();
          const held = gate.held();
          if (held.length > 0) controller.enqueue(held);
          return controller.close();
        }
        meter.read(next.value);
        const pieces = gate.push(next.value);
        for (const piece of pieces) controller.enqueue(piece);
        if (pieces.length > 0) return;
      }
    },
    async cancel(reason) {
      // First: a read in flight takes the cancelled source for one that has ended.
      const settled = meter.settle({ isCancelled: true });
      await upstream.cancel(reason);
      await settled;
    },
  });
}
