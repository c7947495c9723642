import { PayloadReader, type UsageReading, type WireFormat } from '../processUsage/index.js';
import { asObject, objectsIn } from '../processUsage/json.js';
import { readReportedCost } from '../processUsage/reportedCost.js';
import { Exchange } from './exchange.js';
import type { UsageOptions, UsageTarget } from './types.js';
import { isAbort } from './withUsage.js';

/** What is needed of the AI SDK's types (language model specification v3), without depending on it. */
interface ModelLike {
  readonly provider: string;
  readonly modelId: string;
}
interface TokensLike {
  inputTokens: {
    total: number | undefined;
    cacheRead: number | undefined;
    cacheWrite: number | undefined;
  };
  outputTokens: { total: number | undefined; reasoning: number | undefined };
}
interface GenerateResultLike {
  usage: TokensLike;
  finishReason: { raw?: string | undefined; unified: string };
  request?: { body?: unknown };
  response?: { id?: string; modelId?: string; body?: unknown };
  providerMetadata?: object;
}
interface StreamResultLike {
  stream: ReadableStream;
  request?: { body?: unknown };
}
interface StreamPartLike {
  type: string;
  rawValue?: unknown;
  error?: unknown;
  id?: string;
  modelId?: string;
  usage?: TokensLike;
  finishReason?: GenerateResultLike['finishReason'];
  providerMetadata?: object;
}

/**
 * Records the usage of every call of a model of the Vercel AI SDK:
 * `wrapLanguageModel({ model, middleware: usageMiddleware(ledger, { kilo_user_id }) })`.
 * Read from the provider's own answer where it is one of the known formats, else from the SDK's
 * totals. A result, and the last part of a stream, wait until the usage is durable. Each step of a
 * tool loop is a call.
 */
export function usageMiddleware(target: UsageTarget, options: UsageOptions) {
  const open = (model: ModelLike, params: object) => {
    const format = formatOf(model);
    const request = options.request ?? describeCall(format, model, params);
    return { format, exchange: new Exchange(target, { ...options, request }) };
  };
  return {
    specificationVersion: 'v3' as const,

    async wrapGenerate<Result extends GenerateResultLike>(call: {
      doGenerate: () => PromiseLike<Result>;
      params: object;
      model: ModelLike;
    }): Promise<Result> {
      const { format, exchange } = open(call.model, call.params);
      let result: Result;
      try {
        result = await call.doGenerate();
      } catch (error) {
        const isCancelled = isAbort(error);
        throw await exchange.fail(error, { format, streamed: false, reading: null, isCancelled });
      }
      const reading = readResult(format, result);
      await exchange.settle({ format, streamed: false, reading }, result);
      return result;
    },

    async wrapStream<Result extends StreamResultLike, Params extends object>(call: {
      params: Params;
      model: ModelLike & { doStream(params: Params): PromiseLike<Result> };
    }): Promise<Result> {
      const { format, exchange } = open(call.model, call.params);
      const { includeRawChunks = false } = call.params as { includeRawChunks?: boolean };
      let result: Result;
      try {
        result = await call.model.doStream({ ...call.params, includeRawChunks: true });
      } catch (error) {
        const isCancelled = isAbort(error);
        throw await exchange.fail(error, { format, streamed: true, reading: null, isCancelled });
      }
      const stream = meterParts(result.stream, format, exchange, includeRawChunks);
      return { ...result, stream };
    },
  };
}

/** As the format's own request would say it, for estimates and metadata. */
function describeCall(format: WireFormat, model: ModelLike, params: object): object {
  const { prompt, maxOutputTokens, tools } = params as Record<string, unknown>;
  const isResponses = format === 'openai-responses';
  return {
    model: model.modelId,
    [isResponses ? 'input' : 'messages']: prompt,
    [isResponses ? 'max_output_tokens' : 'max_tokens']: maxOutputTokens,
    tools,
  };
}

function formatOf({ provider }: ModelLike): WireFormat {
  if (/anthropic/i.test(provider)) return 'anthropic-messages';
  return provider.endsWith('.responses') ? 'openai-responses' : 'openai-chat';
}

function readResult(format: WireFormat, result: GenerateResultLike): UsageReading {
  const reader = new PayloadReader(format);
  reader.body(result.response?.body);
  const reading = reader.reading();
  if (reading.usage === 'final') return reading;
  return readTotals(reading, {
    usage: result.usage,
    finishReason: result.finishReason,
    messageId: result.response?.id,
    model: result.response?.modelId,
    metadata: result.providerMetadata,
  });
}

interface Totals {
  usage: TokensLike | undefined;
  finishReason: GenerateResultLike['finishReason'] | undefined;
  messageId: string | undefined;
  model: string | undefined;
  /** By provider; some tell of the cost. */
  metadata: object | undefined;
}

/** The SDK's own totals, for a provider whose answers are of another format. */
function readTotals(reading: UsageReading, totals: Totals): UsageReading {
  const { inputTokens: input, outputTokens: output } = totals.usage ?? {};
  const isSaid = input?.total !== undefined && output?.total !== undefined;
  const hit = Math.min(input?.cacheRead ?? 0, input?.total ?? 0);
  return {
    ...reading,
    inputTokens: input?.total ?? reading.inputTokens,
    outputTokens: output?.total ?? reading.outputTokens,
    cacheHitTokens: hit,
    cacheWriteTokens: Math.min(input?.cacheWrite ?? 0, (input?.total ?? 0) - hit),
    reasoningTokens: output?.reasoning ?? reading.reasoningTokens,
    costUsd: reading.costUsd ?? readMetadataCost(totals.metadata),
    usage: isSaid ? 'final' : reading.usage,
    finishReason: totals.finishReason?.raw ?? totals.finishReason?.unified ?? null,
    messageId: totals.messageId ?? reading.messageId,
    model: totals.model ?? reading.model,
  };
}

function readMetadataCost(metadata: object | undefined): string | null {
  for (const said of objectsIn(Object.values(metadata ?? {}))) {
    const cost = readReportedCost(said, asObject(said.usage), '');
    if (cost !== null) return cost;
  }
  return null;
}

/** Passes parts on; what was asked for only to read the usage is taken out again. */
function meterParts(
  source: ReadableStream<StreamPartLike>,
  format: WireFormat,
  exchange: Exchange,
  keepsRaw: boolean,
): ReadableStream<StreamPartLike> {
  const upstream = source.getReader();
  const reader = new PayloadReader(format);
  const seen = new SeenParts(reader);
  let last: StreamPartLike | null = null;
  const known = { format, streamed: true };
  return new ReadableStream<StreamPartLike>({
    async pull(controller) {
      for (;;) {
        let next: Awaited<ReturnType<typeof upstream.read>>;
        try {
          next = await upstream.read();
        } catch (error) {
          const isCancelled = isAbort(error);
          throw await exchange.fail(error, { ...known, reading: seen.reading(), isCancelled });
        }
        if (next.done) {
          try {
            await exchange.settle({ ...known, reading: seen.reading(), ...seen.failure });
            if (last !== null) controller.enqueue(last);
          } catch (error) {
            // As a part, so that the SDK tells its `onError` of it.
            controller.enqueue({ type: 'error', error });
          }
          return controller.close();
        }
        const part = next.value;
        seen.add(part);
        if (seen.hasOutput) exchange.noteFirstToken();
        if (part.type === 'raw' && !keepsRaw) continue;
        if (part.type === 'finish') {
          last = part;
          continue;
        }
        return controller.enqueue(part);
      }
    },
    async cancel(reason) {
      // First: a read in flight takes the cancelled source for one that has ended.
      const settled = exchange.settle({ ...known, reading: seen.reading(), isCancelled: true });
      await upstream.cancel(reason);
      await settled;
    },
  });
}

class SeenParts {
  readonly #reader: PayloadReader;
  readonly #totals: Totals = {
    usage: undefined,
    finishReason: undefined,
    messageId: undefined,
    model: undefined,
    metadata: undefined,
  };
  failure: { error?: unknown; isCancelled?: boolean } = {};

  constructor(reader: PayloadReader) {
    this.#reader = reader;
  }

  get hasOutput(): boolean {
    return this.#reader.sawFirstToken;
  }

  add(part: StreamPartLike): void {
    if (part.type === 'raw') this.#reader.event(part.rawValue);
    if (part.type === 'error') {
      this.failure = { error: part.error, isCancelled: isAbort(part.error) };
    }
    if (part.type === 'response-metadata') {
      this.#totals.messageId = part.id ?? this.#totals.messageId;
      this.#totals.model = part.modelId ?? this.#totals.model;
    }
    if (part.type !== 'finish') return;
    this.#totals.usage = part.usage;
    this.#totals.finishReason = part.finishReason;
    this.#totals.metadata = part.providerMetadata;
    this.#reader.endOfStream();
  }

  reading(): UsageReading {
    const reading = this.#reader.reading();
    if (reading.usage === 'final' || this.#totals.usage === undefined) return reading;
    return readTotals(reading, this.#totals);
  }
}
