import { v7 as uuidv7 } from 'uuid';
import type { UsageEvent } from '../../record/types.js';
import { toUsageEvent } from '../metering/index.js';
import { type PriceFields, priceFields } from '../prices/priceFields.js';
import { createPricer, type PricedReading, type Pricer } from '../prices/pricer.js';
import {
  API_KINDS,
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
    // A defect of ours, where nobody has a log for it; the call is recorded by what else is known. As text:
    // to Node.js an error of another realm, as in Jest, is none.
    const failure = outcome.reading?.failure;
    if (failure !== undefined) process.emitWarning(failure.stack ?? failure.message);
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
    const { format, streamed, reading, isCancelled = false, error } = outcome;
    const request = this.#prepare(outcome);
    const now = performance.now();
    const firstToken = this.#firstToken;
    return toUsageEvent(
      {
        id: (typeof id === 'function' ? id() : id) ?? uuidv7(),
        kiloUserId: kilo_user_id,
        organizationId: organization_id,
        projectId: project_id,
        startedAt: this.#startedAt,
        format,
        apiKind: API_KINDS[format],
        provider: PROVIDERS[format],
        request,
        ...(this.#options.metadata ? { metadata: this.#options.metadata } : {}),
      },
      {
        reading,
        statusCode: outcome.statusCode ?? statusOf(error),
        wasSent: true,
        isBroken: error !== undefined && !isCancelled,
        isCancelled,
        streamed,
        elapsedMs: now - this.#started,
        latencyMs: firstToken === null ? null : firstToken - this.#started,
        generationMs: firstToken === null ? null : now - firstToken,
      },
      (used, at) => this.#price(format, request, used, at),
    );
  }

  #price(
    format: WireFormat,
    { requestedModel }: PreparedRequest,
    reading: PricedReading,
    at: Date,
  ): PriceFields {
    listPricer ??= createPricer();
    const { pricer = listPricer, upstreamHost = null, organization_id = null } = this.#options;
    const organizationId = organization_id;
    return priceFields(pricer, reading, {
      format,
      requestedModel,
      upstreamHost,
      organizationId,
      at,
    });
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

function statusOf(error: unknown): number | null {
  const { status, statusCode } = (error ?? {}) as { status?: unknown; statusCode?: unknown };
  const code = typeof status === 'number' ? status : statusCode;
  return typeof code === 'number' && Number.isInteger(code) ? code : null;
}
