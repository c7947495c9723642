import type { Scope } from '../../accounts/scopes.js';
import type { HoldResult } from '../../budgets/types.js';
import type { RecordedEvent, UsageEvent, UsageMetadata } from '../../record/types.js';

/** A key's id as usage rows have it; the admin key has none. */
export function toApiKeyId(keyId: string | null): string | null {
  return keyId === 'admin' ? null : keyId;
}

/** What is known of a request before its upstream is called. Durable before that call (I9). */
export interface Intent {
  /** UUID v7; becomes the id of the usage row. */
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  /** Of `api_keys`, or `admin`. */
  api_key_id: string | null;
  /** `openai_chat`, `openai_responses`, `anthropic_messages`, ... */
  api_kind: string;
  requested_model: string | null;
  /** ISO 8601 UTC; when the request came. */
  created_at: string;
  /** Tokens of the prompt, as far as they can be told before the call. */
  input_tokens_estimate: number;
  /** The request's limit of output tokens. */
  max_tokens: number | null;
  streamed: boolean;
}

export type Durability = 'database' | 'journal' | 'dead_letter';

export interface SettleResult {
  durable: Durability;
  /** Where the database answered. */
  result?: RecordedEvent;
}

export interface UsageSinkStatus {
  /** Records in the journal that are not in the database yet. */
  depthRecords: number;
  /** Of the journal's files. */
  bytes: number;
  /** Of the oldest record that is not in the database yet, ms; 0 when there is none. */
  oldestAgeMs: number;
  /** No room for new intents: while the database is away too, new requests are refused. */
  full: boolean;
  /** Why the journal takes no records; null = it does. */
  journalFailure: string | null;
  /** Events that the database refused for good and nobody has resolved. */
  deadLetters: number;
  databaseAvailable: boolean;
}

/** Where the gateway leaves what must not be lost. */
export interface UsageSink {
  /**
   * Durable (in the database, or in the journal when that is away) before this resolves.
   * @throws LedgerError `unavailable` (503): neither takes it (database away, journal full,
   *   failed or closed); the upstream must not be called
   */
  begin(intent: Intent): Promise<void>;
  /**
   * Durable usage: resolves after the commit, or after the fsync into the journal; an event that
   * the database refuses for good goes to the dead letters. Give the intent's id. Idempotent (I3).
   * @throws LedgerError `unavailable`: nothing could take it; the intent stays, and is
   *   settled as an estimate
   */
  settle(event: UsageEvent): Promise<SettleResult>;
  /** The intent is in the database already, with its hold. */
  adopt(id: string): void;
  /** No upstream call was made: forget the intent, durably, so that no crash bills for it. */
  abandon(id: string): Promise<void>;
  status(): UsageSinkStatus;
  /** Flushes what is waiting. Open intents stay, for the next start to settle. */
  close(): Promise<void>;
}

/** A response that its provider makes in the background: `intent` says who pays for it. */
export interface FollowedResponse {
  intent: Intent;
  /** The provider's. */
  response_id: string;
  /** The gateway's name for the provider. */
  upstream: string;
  /** Of the row to come; nothing personal, for it lies here until the response has ended. */
  details: UsageMetadata;
}

export interface OpenResponse extends FollowedResponse {
  /** As its hold has it; null without one. */
  projectId: string | null;
  /** How often the provider was asked. */
  looks: number;
  isSettled: boolean;
}

/** A response that was answered at once, and is stored by its provider: who made it, and where. */
export type MadeResponse = Pick<FollowedResponse, 'response_id' | 'upstream'> & {
  /** The provider's names of what it made. */
  item_ids: readonly string[];
  intent: Pick<
    Intent,
    'id' | 'kilo_user_id' | 'organization_id' | 'api_key_id' | 'api_kind' | 'created_at'
  >;
};

/** Where responses in the background are kept until their usage is known, and who made which. */
export interface ResponseFollowing {
  /**
   * Durable (in the database, or in the journal) before this resolves, in place of the intent.
   * @param lookInSeconds when it is due first; default 1
   * @throws LedgerError `unavailable`
   */
  follow(response: FollowedResponse, lookInSeconds?: number): Promise<void>;
  /** Those that are due, for this process alone for a while. @throws LedgerError `unavailable` */
  claimDue(): Promise<OpenResponse[]>;
  postpone(usageId: string, seconds: number): Promise<void>;
  markSettled(usageId: string): Promise<void>;
  /** Null: the key made none of that name. @throws LedgerError `unavailable` */
  find(responseId: string, apiKeyId: string): Promise<OpenResponse | null>;
  /** Committed when it resolves. Again is fine. @throws LedgerError `unavailable` */
  keep(response: MadeResponse): Promise<void>;
  /** Null: nobody made it, as far as is known. @throws LedgerError `unavailable` */
  findUser(responseId: string): Promise<string | null>;
  /** Who made items, by their names; one that nobody made is not in it. @throws LedgerError `unavailable` */
  findItemUsers(itemIds: readonly string[]): Promise<ReadonlyMap<string, string>>;
  /** Those that providers have forgotten. */
  forgetOld(): Promise<void>;
  readonly isAvailable: boolean;
}

/** Who pays: the organization, or else the user. */
export interface Payer {
  kilo_user_id: string;
  organization_id: string | null;
}

/** Whom a key acts for; the same shape as `Principal` of the server. */
export interface GatewayPrincipal {
  keyId: string;
  kiloUserId: string | null;
  organizationId: string | null;
  scopes: ReadonlySet<Scope>;
  /** Of the key itself, in force for whoever pays; default: none has any. */
  hasBudgets?: boolean;
}

/** What a request is to reserve; its id is that of its intent and of its usage row. */
export interface RequestHold extends Payer {
  id: string;
  api_key_id: string | null;
  project_id: string | null;
  /** Microdollars. */
  amount: number;
  /** To be made durable with it; then tell the sink (`adopt`). */
  intent?: Intent;
}

/** Money that is reserved before a provider is called (docs/budgets.md). */
export interface RequestHolds {
  /**
   * From the payer's balance and every hard budget that counts the request, or from none. It is
   * closed by the usage with its id.
   * @throws LedgerError `unavailable` when the database is away or slow; `unknown_user`, ...
   */
  reserve(hold: RequestHold): Promise<HoldResult>;
  /** To `amount` microdollars in all. @throws LedgerError `unavailable`; `forbidden` once closed */
  extend(id: string, amount: number): Promise<HoldResult>;
  /** No provider was called: gives it back, as soon as the database takes it. Never throws. */
  release(id: string): void;
}

export interface Admission {
  /** Acquired - used; may be negative. */
  remainingMicrodollars: number;
  /** Hard budgets beside the balance are in force for this payer. */
  hasBudgets: boolean;
  /** Since the balance was read from the database, ms. */
  ageMs: number;
}

/** Keys, memberships and balances: from the database, or cached with a stated age without it. */
export interface AccountsCache {
  /**
   * @throws LedgerError `unauthorized`; `unavailable` when the database is away and the key was
   *   not seen within the maximum age
   */
  authenticate(key: string): Promise<GatewayPrincipal>;
  /** @throws LedgerError `unavailable` as above */
  isMember(organizationId: string, kiloUserId: string): Promise<boolean>;
  /**
   * What the payer has left. Never refuses by itself: refuse when `remainingMicrodollars` <= 0.
   * @param farMicrodollars with more left, the answer may be of the look before the last
   * @throws LedgerError `unknown_user`, `unknown_organization`; `unavailable` as above
   */
  admit(payer: Payer, farMicrodollars?: number): Promise<Admission>;
}

/** Bounds the overshoot near the limit: requests in flight per payer. */
export interface InFlightLimit {
  /** Null when the payer has as many requests in flight as it may: answer 429. */
  tryAcquire(payer: Payer): (() => void) | null;
  /** When a place is likely to be free, by how long requests take: for `retry-after`. */
  retryAfterSeconds(payer: Payer): number;
}
