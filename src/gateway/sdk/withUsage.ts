import { PayloadReader, type WireFormat } from '../processUsage/index.js';
import { Exchange } from './exchange.js';
import type { UsageOptions, UsageTarget } from './types.js';

export interface WithUsageOptions extends UsageOptions {
  /** Default: told by the answer. */
  format?: WireFormat;
}

/**
 * Makes a call with the OpenAI or the Anthropic SDK and records its usage. What the call gives is
 * given back: a whole answer once its usage is durable; a stream whose iteration ends (or fails, or
 * is left) once it is. A chat stream says its usage only with `stream_options.include_usage`.
 * A call that throws is recorded as an error without cost, and its error thrown on.
 * @throws UsageRecordingError as the options say; what `call` throws
 */
export async function withUsage<Answer>(
  target: UsageTarget,
  options: WithUsageOptions,
  call: () => PromiseLike<Answer>,
): Promise<Answer> {
  const exchange = new Exchange(target, options);
  const format = options.format ?? null;
  let answer: Answer;
  try {
    answer = await call();
  } catch (error) {
    throw await exchange.fail(error, {
      format: format ?? 'openai-chat',
      streamed: false,
      reading: null,
      isCancelled: isAbort(error),
    });
  }
  const inner = unwrap(answer);
  if (isAsyncIterable(inner)) {
    meterStream(inner, exchange, format);
    return answer;
  }
  const known = format ?? detectFormat(inner) ?? 'openai-chat';
  const reader = new PayloadReader(known);
  reader.body(inner);
  await exchange.settle({ format: known, streamed: false, reading: reader.reading() }, answer);
  return answer;
}

/** What `withResponse()` gives holds the answer as `data`. */
function unwrap(answer: unknown): unknown {
  if (typeof answer !== 'object' || answer === null) return answer;
  const { data, response } = answer as { data?: unknown; response?: unknown };
  return data !== undefined && response instanceof Response ? data : answer;
}

interface SdkStream extends AsyncIterable<unknown> {
  /** Both SDKs keep the source here; their `tee()` reads it, too. */
  iterator?: () => AsyncIterator<unknown>;
  controller?: AbortController;
}

/** Puts the meter into the SDK's own object, so that all it offers stays. */
function meterStream(stream: SdkStream, exchange: Exchange, format: WireFormat | null): void {
  const { iterator } = stream;
  const open =
    typeof iterator === 'function'
      ? () => iterator.call(stream)
      : stream[Symbol.asyncIterator].bind(stream);
  const metered = () => meterEvents(open(), stream, exchange, format);
  const name = typeof iterator === 'function' ? 'iterator' : Symbol.asyncIterator;
  Object.defineProperty(stream, name, { value: metered, configurable: true, writable: true });
}

async function* meterEvents(
  source: AsyncIterator<unknown>,
  stream: SdkStream,
  exchange: Exchange,
  givenFormat: WireFormat | null,
): AsyncGenerator<unknown> {
  let format = givenFormat;
  let reader: PayloadReader | null = null;
  let isLeft = true;
  const outcome = () => ({
    format: format ?? ('openai-chat' as const),
    streamed: true,
    reading: reader?.reading() ?? null,
  });
  try {
    for (;;) {
      const { done, value } = await source.next();
      if (done) break;
      format ??= detectFormat(value);
      reader ??= new PayloadReader(format ?? 'openai-chat');
      reader.event(value);
      if (reader.sawFirstToken) exchange.noteFirstToken();
      yield value;
    }
    isLeft = false;
    // The SDKs end an aborted stream as if it were over.
    const isCancelled = stream.controller?.signal.aborted === true;
    if (!isCancelled) reader?.endOfStream();
    await exchange.settle({ ...outcome(), isCancelled });
  } catch (error) {
    const isOurs = !isLeft;
    isLeft = false;
    if (isOurs) throw error;
    throw await exchange.fail(error, { ...outcome(), isCancelled: isAbort(error) });
  } finally {
    if (isLeft) {
      await source.return?.();
      await exchange.settle({ ...outcome(), isCancelled: true });
    }
  }
}

/** By what every answer or first event of a format says of itself. */
function detectFormat(payload: unknown): WireFormat | null {
  if (typeof payload !== 'object' || payload === null) return null;
  const { object, type } = payload as { object?: unknown; type?: unknown };
  if (typeof object === 'string' && object.startsWith('chat.completion')) return 'openai-chat';
  if (object === 'response') return 'openai-responses';
  if (typeof type !== 'string') return null;
  if (type.startsWith('response.')) return 'openai-responses';
  return type === 'message' || type === 'message_start' ? 'anthropic-messages' : null;
}

function isAsyncIterable(value: unknown): value is SdkStream {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

export function isAbort(error: unknown): boolean {
  return error instanceof Error && /Abort/.test(`${error.name} ${error.constructor.name}`);
}
