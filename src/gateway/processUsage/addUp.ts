/** The parts of a usage as its sender names them. Null = not said. */
export interface Parts {
  prompt: number | null;
  completion: number | null;
  total: number | null;
  cacheRead: number;
  cacheWrite: number;
  reasoning: number | null;
}

export interface Sums {
  /** Every token of the prompt. */
  input: number | null;
  /** Every token that was generated. */
  output: number | null;
  /** What the parts do not agree about. */
  doubts: readonly ('total_tokens' | 'reasoning_tokens')[];
}

/**
 * Most providers count the cache within the prompt and reasoning within the completion; some count
 * one or both beside them. The total tells where it is given; else what is larger than a thing is
 * no part of it. What the total has beyond prompt and completion is output: it was generated,
 * unseen (Gemini's thoughts, xAI's reasoning).
 */
export function addUp(parts: Parts): Sums {
  const { prompt, completion } = parts;
  // Zero is what many servers send for a total that they do not count.
  const total = parts.total === 0 ? null : parts.total;
  if (prompt === null || completion === null) return fromTotal(prompt, completion, total);
  const reasoning = parts.reasoning ?? 0;
  let surplus = total === null ? null : total - prompt - completion;
  const beside = cacheBeside({ ...parts, prompt }, surplus, reasoning);
  const doubts: Sums['doubts'][number][] = [];
  if (surplus !== null) {
    if (surplus >= beside) surplus -= beside;
    // A total of the two alone: what stands beside them is in neither.
    else if (surplus === 0) surplus = 0;
    else doubts.push('total_tokens');
  }
  let output = completion + Math.max(0, surplus ?? 0);
  if (reasoning > output) {
    if (total === null) output += reasoning;
    else doubts.push('reasoning_tokens');
  }
  return { input: prompt + beside, output, doubts };
}

function fromTotal(prompt: number | null, completion: number | null, total: number | null): Sums {
  const rest = (known: number) => (total !== null && total >= known ? total - known : null);
  return {
    input: prompt ?? (completion === null ? null : rest(completion)),
    output: completion ?? (prompt === null ? null : rest(prompt)),
    doubts: [],
  };
}

/** Tokens of the cache that the prompt's count leaves out. */
function cacheBeside(
  { prompt, cacheRead, cacheWrite }: Parts & { prompt: number },
  surplus: number | null,
  reasoning: number,
): number {
  const both = cacheRead + cacheWrite;
  const amounts = [both, cacheRead, cacheWrite].filter(
    (amount) => amount > 0 && prompt + amount >= both,
  );
  const said = amounts.find(
    (amount) => surplus === amount || (reasoning > 0 && surplus === amount + reasoning),
  );
  if (said !== undefined && surplus !== reasoning) return said;
  if (both <= prompt) return 0;
  // A total of prompt and completion alone, in which the reads have room: LiteLLM left out the writes.
  return surplus === 0 && cacheRead <= prompt ? cacheWrite : both;
}
