import type { RecordResult, UsageEvent, UsageMetadata } from '../../record/types.js';
import type { Pricer } from '../prices/pricer.js';
import type { RemoteLedger } from './remoteLedger.js';

/** Where usage goes: a ledger of this process, or a server. */
export type UsageTarget = { recordUsage(event: UsageEvent): Promise<RecordResult> } | RemoteLedger;

/** For whom usage is recorded, and how. */
export interface UsageOptions {
  kilo_user_id: string;
  organization_id?: string | null;
  project_id?: string | null;
  /**
   * Idempotency key of the call (a UUID). For what is called more than once (`meteredFetch`,
   * `usageMiddleware`), a function. Default: a new one for each call.
   */
  id?: string | (() => string);
  /** `feature`, `session_id`, ... */
  metadata?: UsageMetadata;
  /** The request, as given to the SDK: for estimates and metadata where an answer lacks usage. */
  request?: object;
  /** Default: list prices. */
  pricer?: Pricer;
  /** Host of the provider, which tells a reseller's prices from a maker's. */
  upstreamHost?: string | null;
  onRecorded?: (result: RecordResult, event: UsageEvent) => void;
  /**
   * Usage that could not be recorded. `throw` (default): a `UsageRecordingError`, which holds the
   * answer and the event to record again. A function: told of it, and the call goes on.
   */
  onRecordingError?: 'throw' | ((error: UsageRecordingError) => void);
}

/** The provider answered, but the ledger did not take the usage. Record `event` again: same id. */
export class UsageRecordingError extends Error {
  readonly event: UsageEvent & { id: string };
  /** Of the provider, where there is one: not lost. */
  readonly answer: unknown;

  constructor(event: UsageEvent & { id: string }, answer: unknown, cause: unknown) {
    super('the usage of an answer could not be recorded', { cause });
    this.name = 'UsageRecordingError';
    this.event = event;
    this.answer = answer;
  }
}
