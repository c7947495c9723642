import type { PreparedRequest, UsageReading } from '../processUsage/index.js';
import type { RelayOutcome } from './relayTypes.js';
import type { OnAbort } from './upstreamEntry.js';
import type { Upstream } from './upstreams.js';

/** Of models that are fast; a slower one is charged too much rather than too little. */
const TOKENS_PER_SECOND = 100;
/** Where the request sets no limit: answers longer than this are drained, or are rare. */
const MAX_UNSEEN_TOKENS = 128_000;
const BYTES_PER_TOKEN = 4;

/** Models that think before they speak, of those whose requests need not say so. */
const REASONING_MODEL = /(^|[/.-])(o[1-9]|gpt-[5-9]|r1|qwq|magistral)([.:-]|$)|reason|think/i;

/**
 * What becomes of the provider's work when the client leaves: as the upstream's entry says, else as
 * the gateway's setting, else as the API bills. A stream of Anthropic's shows all but hidden thinking
 * as it is made, and says at its start what the prompt was: it is stopped. Elsewhere usage comes only
 * at the end, and what is thought is not shown: it is read to its end, as is every whole answer.
 */
export function chooseOnAbort(
  { onAbort }: Upstream,
  setting: OnAbort | null,
  { format, streamed }: PreparedRequest,
): OnAbort {
  const chosen = onAbort ?? setting;
  if (chosen !== null) return chosen;
  return streamed && format === 'anthropic-messages' ? 'stop' : 'drain';
}

/**
 * What was read of an answer that was stopped, with what was made unseen: where nothing was seen, or
 * thinking may have been hidden, as many tokens as a fast model makes in that time.
 */
export function withUnseenOutput(
  reading: UsageReading,
  prepared: PreparedRequest,
  { sentAt }: RelayOutcome,
  endedAt: number,
): UsageReading {
  if (reading.usage === 'final') return reading;
  const seen = reading.outputBytes;
  if (seen > 0 && !mayThink(prepared)) return reading;
  const seconds = sentAt === null ? 0 : Math.max(0, endedAt - sentAt) / 1_000;
  const limit = prepared.maxTokens ?? MAX_UNSEEN_TOKENS;
  const tokens = Math.max(1, Math.min(limit, Math.ceil(seconds * TOKENS_PER_SECOND)));
  return { ...reading, outputBytes: Math.max(seen, tokens * BYTES_PER_TOKEN) };
}

/** Read again, for it is rare that a client leaves. */
function mayThink({ body, requestedModel }: PreparedRequest): boolean {
  let request: Record<string, unknown>;
  try {
    request = JSON.parse(body.toString());
  } catch {
    return true;
  }
  const { thinking, reasoning, reasoning_effort: effort } = request;
  const kind = (thinking as { type?: unknown } | undefined)?.type;
  if (kind === 'enabled' || kind === 'adaptive') return true;
  if (reasoning != null || effort != null) return true;
  return REASONING_MODEL.test(requestedModel ?? '');
}
