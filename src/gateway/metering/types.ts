import type { UsageMetadata } from '../../record/types.js';
import type { PreparedRequest, UsageReading, WireFormat } from '../processUsage/index.js';

/** One call to a provider, as it began. */
export interface MeteredCall {
  /** UUID; of the row. */
  id: string;
  kiloUserId: string;
  organizationId: string | null;
  projectId?: string | null;
  apiKeyId?: string | null;
  /** By the wall clock of that moment. */
  startedAt: Date;
  format: WireFormat;
  /** Stored as `api_kind`. */
  apiKind: string;
  /** Stored as `provider`. */
  provider: string;
  request: PreparedRequest;
  /** Of the caller: headers, `feature`, ... */
  metadata?: UsageMetadata;
}

/** How it ended. */
export interface CallEnd {
  /** Null: no answer that may tell of usage. */
  reading: UsageReading | null;
  /** Null: the provider sent none. */
  statusCode: number | null;
  /** The request went out, so it may have been billed. */
  wasSent: boolean;
  /** No answer, or it broke off, and nobody wanted that. */
  isBroken: boolean;
  /** The caller left, or stopped it. */
  isCancelled: boolean;
  streamed: boolean;
  upstreamId?: string | null;
  /** From the start to now, ms of a monotonic clock. */
  elapsedMs: number;
  /** From the start to the first token, and from there to the end, ms; null = there was none. */
  latencyMs: number | null;
  generationMs: number | null;
}
