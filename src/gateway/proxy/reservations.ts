import { TtlCache } from '../../accounts/ttlCache.js';
import type { HoldResult } from '../../budgets/types.js';
import { LedgerError } from '../../errors.js';
import type { UsageEvent } from '../../record/types.js';
import { payerKey } from '../durable/inFlight.js';
import type { AccountsCache, Intent, RequestHolds } from '../durable/types.js';
import { amountAtMost, outputFor } from '../holds/amountAtMost.js';
import { expectedAmount, expectedOutput } from '../holds/expectedAmount.js';
import { limitOutput } from '../holds/limitOutput.js';
import { limitsOf, UNKNOWN_MODEL_OUTPUT } from '../holds/modelLimits.js';
import { RecentUsage } from '../holds/recentUsage.js';
import { boundRequest, isUnbounded, type RequestBounds } from '../holds/requestBounds.js';
import type { PriceContext, Pricer } from '../prices/index.js';
import { requireLeft } from './admission.js';
import { toBudgetRefusal } from './budgetRefusal.js';
import { type Exchange, toIntent } from './exchange.js';
import type { GatewayMetrics } from './metrics.js';
import { Refusal } from './refusal.js';
import type { Allowance } from './streamAllowance.js';

/** How a request is held: the most that it can cost, or what it likely does. */
export type HoldMode = 'strict' | 'expected';

/** What becomes of a stream that outgrows what can be held for it. */
export type OnOutgrown = 'continue' | 'end';

export interface HoldOptions {
  mode: HoldMode;
  store: RequestHolds;
  /** Default `continue`. Where the most is held it is always ended. */
  onOutgrown?: OnOutgrown;
}

/** What is reserved for a request. */
export interface Reserved {
  /** Microdollars. */
  amount: number;
  /** ISO 8601, of the database: the usage is recorded at it, in whose windows the money is. */
  createdAt: string;
  /** That it is for, of all choices. */
  outputTokens: number;
  /** Microdollars for so many. */
  amountOf: (outputTokens: number) => number;
}

/**
 * A payer without budgets of its own has so many requests in flight at most, whichever way they come:
 * with more left than so many times what this one likely costs, the balance is safe without a hold.
 */
const FAR_REQUESTS = 1_000;
/** Text of a token: as it is estimated, and what few answers exceed. */
const BYTES_PER_TOKEN = { expected: 4, strict: 16 } as const satisfies Record<HoldMode, number>;
/** Of a payer that has budgets every request is held, without a look at its balance, for so long. */
const BUDGETED_TTL_MS = 60_000;
const MAX_BUDGETED = 20_000;
/** What is left may be less by the time that it is asked for. */
const MAX_TRIES = 4;

/** Reserves what requests cost before their provider is called (docs/budgets.md). */
export class Reservations {
  readonly mode: HoldMode;
  readonly #onOutgrown: OnOutgrown;
  readonly #store: RequestHolds;
  readonly #pricer: Pricer;
  readonly #accounts: AccountsCache;
  readonly #metrics: GatewayMetrics;
  readonly #recent = new RecentUsage();
  readonly #budgeted = new TtlCache<true>(MAX_BUDGETED);

  constructor(
    { mode, store, onOutgrown = 'continue' }: HoldOptions,
    context: { pricer: Pricer; accounts: AccountsCache; metrics: GatewayMetrics },
  ) {
    this.mode = mode;
    this.#onOutgrown = mode === 'strict' ? 'end' : onOutgrown;
    this.#store = store;
    this.#pricer = context.pricer;
    this.#accounts = context.accounts;
    this.#metrics = context.metrics;
  }

  /** Every request of the payer, or of its key, is held, as far as is known. */
  holdsAlways({ payer, principal }: Pick<Exchange, 'payer' | 'principal'>): boolean {
    if (this.mode === 'strict' || principal.hasBudgets) return true;
    return this.#budgeted.get(payerKey(payer)) !== undefined;
  }

  /**
   * @param how whether its intent is to be made durable with the hold
   * @returns whether something is held
   * @throws Refusal naming the budget, or what of the request has no bound; LedgerError `unavailable`
   */
  async reserve(exchange: Exchange, how: { withIntent: boolean }): Promise<boolean> {
    if (this.mode === 'strict') await this.#reserveMost(exchange, how.withIntent);
    else await this.#reserveExpected(exchange, how.withIntent);
    return exchange.reserved !== null;
  }

  /** The most that the request can cost. Where that is not there, its output is limited to what is. */
  async #reserveMost(exchange: Exchange, withIntent: boolean): Promise<void> {
    const bounds = this.#bound(exchange);
    const amountOf = (outputTokens: number) => this.#amountAtMost(exchange, bounds, outputTokens);
    const { leastOutput, choices } = bounds;
    let limit = bounds.outputLimit ?? this.#usualLimit(exchange, leastOutput);
    for (let tries = 1; ; tries++) {
      const result = await this.#reserve(exchange, {
        outputTokens: limit * choices,
        amountOf: (outputTokens) => amountOf(Math.ceil(outputTokens / choices)),
        // Vectors and ranks have no limit.
        intent: withIntent
          ? { ...toIntent(exchange), ...(limit === 0 ? {} : { max_tokens: limit }) }
          : null,
      });
      if (result.status !== 'refused') {
        this.#takeLimit(exchange, bounds, limit);
        return;
      }
      const left = result.available_microdollars;
      const lower = outputFor(left, amountOf, leastOutput, limit - 1);
      if (lower === null || tries === MAX_TRIES) {
        throw this.#refuse(exchange, result, 'may cost up to', amountOf(leastOutput));
      }
      limit = lower;
    }
  }

  /**
   * What the request likely costs; nothing where the payer has no budgets and its balance is far away,
   * or the database is: a balance is trusted without it for a while.
   */
  async #reserveExpected(exchange: Exchange, withIntent: boolean): Promise<void> {
    const { payer, prepared, endpoint } = exchange;
    const key = payerKey(payer);
    const recent = this.#recent.most(key, prepared.requestedModel);
    const request = { prepared, side: endpoint.side ?? null, recent };
    const context = contextOf(exchange);
    const amountOf = (outputTokens: number) =>
      expectedAmount(this.#pricer, context, request, outputTokens);
    const outputTokens = expectedOutput(request);
    const amount = amountOf(outputTokens);
    if (!this.holdsAlways(exchange)) {
      const far = FAR_REQUESTS * amount;
      const { hasBudgets, remainingMicrodollars } = await this.#accounts.admit(payer, far);
      requireLeft(payer, remainingMicrodollars);
      if (hasBudgets) this.#budgeted.set(key, true, BUDGETED_TTL_MS);
      else if (remainingMicrodollars > far) return;
    }
    try {
      const intent = withIntent ? toIntent(exchange) : null;
      const result = await this.#reserve(exchange, { outputTokens, amountOf, intent });
      if (result.status === 'refused') {
        throw this.#refuse(exchange, result, 'is expected to cost', amount);
      }
    } catch (error) {
      if (!(error instanceof LedgerError) || error.code !== 'unavailable') throw error;
      const { remainingMicrodollars } = await this.#accounts.admit(payer);
      requireLeft(payer, remainingMicrodollars);
      this.#metrics.holds.inc({ api: exchange.api.kind, outcome: 'unheld' });
    }
  }

  /** No provider was called. */
  release({ id, reserved }: Exchange): void {
    if (reserved !== null) this.#store.release(id);
  }

  /** Of a stream, what it may generate for what is held; null = it is not watched. */
  allowanceOf(exchange: Exchange): Allowance | null {
    const { id, reserved, prepared, api } = exchange;
    if (reserved === null || !prepared.streamed) return null;
    return {
      outputTokens: reserved.outputTokens,
      mostTokens: prepared.maxTokens === null ? null : prepared.maxTokens * prepared.choices,
      bytesPerToken: BYTES_PER_TOKEN[this.mode],
      amountOf: reserved.amountOf,
      extend: async (amount) => {
        const result = await this.#store.extend(id, amount);
        const isGranted = result.status !== 'refused';
        if (isGranted) {
          reserved.amount = Math.max(reserved.amount, result.amount);
          this.#metrics.holds.inc({ api: api.kind, outcome: 'extended' });
        }
        return { isGranted, held: reserved.amount, left: result.available_microdollars };
      },
    };
  }

  /** A stream generated all that is held, and nothing is left. Null: it may go on. */
  endOutgrown({ id, api, request }: Exchange): Refusal | null {
    this.#metrics.holds.inc({ api: api.kind, outcome: 'outgrown' });
    request.log.info({ usageId: id, ends: this.#onOutgrown }, 'a stream outgrew what was held');
    if (this.#onOutgrown === 'continue') return null;
    const message = 'what this request is paid from is used up, so its answer was ended here';
    return new Refusal('budget_exceeded', message);
  }

  /**
   * What a request used in the end.
   * @param outputBytes of a stream, as it was watched: else the next like it would outgrow its hold
   */
  noteUsage(
    { payer, prepared, api, reserved }: Exchange,
    event: UsageEvent,
    outputBytes: number,
  ): void {
    const { cost, output_tokens: tokens = 0, has_error: hasError = false } = event;
    if (this.mode === 'expected' && !hasError) {
      const outputTokens = Math.max(tokens ?? 0, Math.ceil(outputBytes / BYTES_PER_TOKEN.expected));
      const used = { outputTokens, costMicrodollars: cost };
      this.#recent.note(payerKey(payer), prepared.requestedModel, used);
    }
    if (reserved !== null && cost > reserved.amount) {
      this.#metrics.holdOvershoot.inc({ api: api.kind }, cost - reserved.amount);
    }
  }

  #bound(exchange: Exchange): RequestBounds {
    const { endpoint, body, json, prepared } = exchange;
    const { format, path, side = null } = endpoint;
    const bounds = boundRequest({ format, path, side, body, json, prepared });
    if (isUnbounded(bounds)) throw noBound(bounds.param, bounds.why);
    return bounds;
  }

  #amountAtMost(exchange: Exchange, bounds: RequestBounds, outputTokens: number): number {
    const { amount, doubts } = amountAtMost(
      this.#pricer,
      contextOf(exchange),
      bounds,
      outputTokens,
    );
    const [doubt] = doubts;
    if (doubt !== undefined)
      throw noBound(doubt.split(':', 1)[0] ?? null, `what ${doubt} costs is not known`);
    return amount;
  }

  #usualLimit({ prepared }: Exchange, leastOutput: number): number {
    const most = limitsOf(prepared.requestedModel)?.output ?? UNKNOWN_MODEL_OUTPUT;
    return Math.max(most, leastOutput);
  }

  /** Also what goes out after a refusal of `stream_options`. */
  #takeLimit(exchange: Exchange, { limitMembers }: RequestBounds, limit: number): void {
    const { prepared, body } = exchange;
    const isOwn = prepared.body === body;
    exchange.body = limitOutput(body, limitMembers, limit);
    if (exchange.body === body) return;
    exchange.prepared = {
      ...prepared,
      body: isOwn ? exchange.body : limitOutput(prepared.body, limitMembers, limit),
      maxTokens: limit,
    };
    exchange.ownHeaders = { ...exchange.ownHeaders, 'x-microdollar-output-limit': String(limit) };
  }

  async #reserve(
    exchange: Exchange,
    {
      outputTokens,
      amountOf,
      intent,
    }: Pick<Reserved, 'outputTokens' | 'amountOf'> & { intent: Intent | null },
  ): Promise<HoldResult> {
    const { id, payer, apiKeyId, projectId, api } = exchange;
    const amount = amountOf(outputTokens);
    const request = { ...payer, id, api_key_id: apiKeyId, project_id: projectId, amount };
    const result = await this.#store.reserve(intent === null ? request : { ...request, intent });
    this.#metrics.holds.inc({
      api: api.kind,
      outcome: result.status === 'refused' ? 'refused' : 'granted',
    });
    if (result.status !== 'refused' && result.created_at !== null) {
      const { amount: held, created_at: createdAt } = result;
      exchange.reserved = { amount: held, createdAt, outputTokens, amountOf };
      exchange.createdAt = new Date(result.created_at);
    }
    return result;
  }

  #refuse(exchange: Exchange, result: HoldResult, says: string, amount: number): Refusal {
    exchange.request.log.info(
      { usageId: exchange.id, budget: result.refused_by?.id, left: result.available_microdollars },
      'a budget refused the request',
    );
    return toBudgetRefusal(result, { says, amount });
  }
}

function contextOf(exchange: Exchange): PriceContext {
  const { api, prepared, payer, upstream, createdAt } = exchange;
  return {
    requestedModel: prepared.requestedModel,
    format: api.format,
    upstreamHost: upstream.host,
    organizationId: payer.organization_id,
    at: createdAt,
  };
}

function noBound(param: string | null, why: string): Refusal {
  const message =
    `this gateway reserves the most that a request can cost, and of this one nobody can tell: ${why}; ` +
    'send it without';
  return new Refusal('invalid_request', message, param === null ? {} : { param });
}
