import { v7 as uuidv7 } from 'uuid';
import type { UsageEvent, UsageMetadata } from '../../record/types.js';
import { toPriceFields } from '../prices/priceFields.js';
import { createPricer, type Pricer } from '../prices/pricer.js';
import {
  estimateUsage,
  PayloadReader,
  type PreparedRequest,
  prepareRequest,
  type UsageReading,
  type WireFormat,
} from '../processUsage/index.js';
import { recordRemotely } from './remoteLedger.js';
import { type UsageOptions, UsageRecordingError, type UsageTarget } from './types.js';

/** How a call to a provider ended. */
export interface CallOutcome {
  format: WireFormat;
  streamed: boolean;
  /** Null: no answer, or an error instead of one. */
  reading: UsageReading | null;
  /** What was thrown at the caller. */
  error?: unknown;
  /** The caller stopped it. */
  isCancelled?: boolean;
  statusCode?: number | null;
}

const PROVIDERS = {
  'openai-chat': 'openai',
  'openai-responses': 'openai',
  'anthropic-messages': 'anthropic',
} as const satisfies Record<WireFormat, string>;

/** `metadata.estimated` where the provider was called and what it charged is not known. */
const NO_ANSWER = 'no_answer';
const MAX_NAME_LENGTH = 512;
let listPricer: Pricer | null = null;

/** One call to a provider, from its start until its usage is recorded. */
export class Exchange {
  readonly #target: UsageTarget;
  readonly #options: UsageOptions;
  readonly #startedAt = new Date();
  readonly #started = performance.now();
  #firstToken: number | null = null;
  #prepared: PreparedRequest | null;
  #isSettled = false;

  constructor(target: UsageTarget, options: UsageOptions, prepared: PreparedRequest | null = null) {
    this.#target = target;
    this.#options = options;
    this.#prepared = prepared;
  }

  noteFirstToken(): void {
    this.#firstToken ??= performance.now();
  }

  /**
   * Records the call's usage, once: what is cancelled may fail as well. Resolves when it is durable.
   * @throws UsageRecordingError, unless the options take it
   */
  async settle(outcome: CallOutcome, answer?: unknown): Promise<void> {
    if (this.#isSettled) return;
    this.#isSettled = true;
    const event = this.#toEvent(outcome);
    const { onRecorded, onRecordingError = 'throw' } = this.#options;
    try {
      const target = this.#target;
      const result =
        'recordUsage' in target
          ? await target.recordUsage(event)
          : await recordRemotely(target, event);
      onRecorded?.(result, event);
    } catch (cause) {
      const error = new UsageRecordingError(event, answer, cause);
      if (onRecordingError === 'throw') throw error;
      onRecordingError(error);
    }
  }

  /** Records a call that threw, and gives what to throw on: neither error hides the other. */
  async fail(error: unknown, outcome: Omit<CallOutcome, 'error'>): Promise<unknown> {
    try {
      await this.settle({ ...outcome, error });
      return error;
    } catch (recordingError) {
      return new AggregateError([error, recordingError], 'the call failed, and was not recorded');
    }
  }

  #toEvent(outcome: CallOutcome): UsageEvent & { id: string } {
    const { kilo_user_id, organization_id = null, project_id = null, id } = this.#options;
    const { reading } = outcome;
    const prepared = this.#prepare(outcome);
    const estimate = isCharged(outcome) && reading ? estimateUsage(prepared, reading) : null;
    const used = estimate?.reading;
    const price = estimate && this.#price(outcome, prepared, estimate.reading);
    const isUnknown = estimate === null && outcome.isCancelled === true;
    return {
      id: (typeof id === 'function' ? id() : id) ?? uuidv7(),
      kilo_user_id,
      organization_id,
      project_id,
      created_at: this.#startedAt.toISOString(),
      cost: price?.cost ?? 0,
      input_tokens: used?.inputTokens ?? 0,
      output_tokens: used?.outputTokens ?? 0,
      cache_write_tokens: used?.cacheWriteTokens ?? 0,
      cache_hit_tokens: used?.cacheHitTokens ?? 0,
      provider: PROVIDERS[outcome.format],
      model: cut(reading?.model ?? prepared.requestedModel),
      requested_model: prepared.requestedModel,
      inference_provider: cut(reading?.inferenceProvider),
      has_error: hasFailed(outcome) && outcome.isCancelled !== true,
      metadata: {
        ...this.#toMetadata(outcome, prepared),
        ...price?.metadata,
        ...(price && price.cost === null ? { unpriced: true } : {}),
        estimated: estimate?.estimated ?? (isUnknown ? NO_ANSWER : null),
        ...this.#options.metadata,
      },
    };
  }

  #toMetadata(outcome: CallOutcome, prepared: PreparedRequest): UsageMetadata {
    const { reading, isCancelled = false, error } = outcome;
    const isPersonal = (this.#options.organization_id ?? null) === null;
    const firstToken = this.#firstToken;
    return {
      api_kind: outcome.format.replace('-', '_'),
      streamed: outcome.streamed,
      cancelled: isCancelled,
      status_code: outcome.statusCode ?? statusOf(error),
      message_id: reading?.messageId?.slice(0, 1024) ?? null,
      finish_reason: cut(reading?.finishReason),
      reasoning_tokens: reading?.reasoningTokens ?? null,
      is_byok: reading?.isByok ?? null,
      max_tokens: prepared.maxTokens,
      has_tools: prepared.hasTools,
      system_prompt_length: prepared.systemPromptLength,
      user_prompt_prefix: isPersonal ? prepared.userPromptPrefix : null,
      system_prompt_prefix: isPersonal ? prepared.systemPromptPrefix : null,
      latency: firstToken === null ? null : firstToken - this.#started,
      generation_time: firstToken === null ? null : performance.now() - firstToken,
    };
  }

  #price(
    { format }: CallOutcome,
    { requestedModel }: PreparedRequest,
    reading: UsageReading,
  ): ReturnType<typeof toPriceFields> {
    listPricer ??= createPricer();
    const { pricer = listPricer, upstreamHost = null, organization_id = null } = this.#options;
    return toPriceFields(
      pricer.price(reading, {
        format,
        requestedModel,
        upstreamHost,
        organizationId: organization_id,
        at: this.#startedAt,
      }),
    );
  }

  #prepare({ format, streamed }: CallOutcome): PreparedRequest {
    this.#prepared ??= { ...prepareGiven(format, this.#options.request), streamed };
    return this.#prepared;
  }
}

/** A reading of nothing, for a call that was cut before an answer came. */
export function emptyReading(format: WireFormat): UsageReading {
  return new PayloadReader(format).reading();
}

/** A request that the caller gave as an object, or did not give. */
function prepareGiven(format: WireFormat, request: object | undefined): PreparedRequest {
  const nothing = () => ({
    ...prepareRequest(format, Buffer.from('{}')),
    inputTokensEstimate: 0,
  });
  if (request === undefined) return nothing();
  try {
    return prepareRequest(format, Buffer.from(JSON.stringify(request)));
  } catch {
    // Circular, or of values that JSON does not have: usage is recorded without it.
    return nothing();
  }
}

/** An error before anything came costs nothing; what was cut by the caller may have cost. */
function isCharged(outcome: CallOutcome): boolean {
  const { reading, isCancelled } = outcome;
  if (reading === null) return false;
  if (reading.usage !== 'missing' || reading.outputBytes > 0) return true;
  return isCancelled === true || !hasFailed(outcome);
}

function hasFailed({ error, reading, statusCode }: CallOutcome): boolean {
  return error !== undefined || (statusCode ?? 200) >= 400 || (reading?.error ?? null) !== null;
}

function statusOf(error: unknown): number | null {
  const { status, statusCode } = (error ?? {}) as { status?: unknown; statusCode?: unknown };
  const code = typeof status === 'number' ? status : statusCode;
  return typeof code === 'number' && Number.isInteger(code) ? code : null;
}

function cut(text: string | null | undefined): string | null {
  return text?.slice(0, MAX_NAME_LENGTH) ?? null;
}
