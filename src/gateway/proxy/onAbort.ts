import type { PreparedRequest } from '../processUsage/index.js';
import type { OnAbort } from './upstreamEntry.js';
import type { Upstream } from './upstreams.js';

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
