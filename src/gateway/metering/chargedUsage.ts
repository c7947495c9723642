import {
  createUsageReader,
  type EstimatedUsage,
  estimateUsage,
  type UsageReading,
} from '../processUsage/index.js';
import { isErrorStatus } from './errorStatus.js';
import type { CallEnd, MeteredCall } from './types.js';

/** `metadata.estimated` where the provider was called and answered nothing: the cost is unknown. */
export const NO_ANSWER = 'no_answer';

/** For an estimate by time: what nobody heard of for longer did not work all the while. */
export const MAX_WORK_MS = 10 * 60_000;

/**
 * What is charged; null = nothing. An error of the provider costs nothing, nor does a call that
 * broke off before anything came. What was cancelled then may well have been billed for its
 * prompt, and for what was generated unseen.
 */
export function chargedUsage(call: MeteredCall, end: CallEnd): EstimatedUsage | null {
  const { reading, statusCode, wasSent, isBroken, isCancelled, elapsedMs, latencyMs } = end;
  const { request, format } = call;
  const work = { silentMs: latencyMs ?? Math.min(elapsedMs, MAX_WORK_MS) };
  if (statusCode === null && reading === null) {
    // Of a request that was not given to us nothing can be told.
    if (!wasSent || !isCancelled || request.inputTokensEstimate === 0) return null;
    const nothing = createUsageReader(format, { streamed: end.streamed }).end();
    return estimateUsage(request, nothing, work);
  }
  if (reading === null || isErrorStatus(statusCode ?? 200)) return null;
  const hasFailed = isBroken || reading.error !== null;
  if (hasFailed && !isCancelled && isNothing(reading)) return null;
  return estimateUsage(request, reading, work);
}

function isNothing(reading: UsageReading): boolean {
  const { usage, outputBytes, costUsd, webSearches, fileSearches, charges } = reading;
  const calls = webSearches + fileSearches + Object.keys(charges).length;
  return usage === 'missing' && outputBytes === 0 && calls === 0 && costUsd === null;
}

/** The provider was called, and whether it charges for it is not known. */
export function isUnanswered(charged: EstimatedUsage | null, end: CallEnd): boolean {
  return (
    charged === null && end.wasSent && (end.statusCode === null || !isErrorStatus(end.statusCode))
  );
}

export function hasError({ reading, statusCode, isBroken }: CallEnd): boolean {
  return isBroken || isErrorStatus(statusCode ?? 200) || (reading?.error ?? null) !== null;
}
