import { asCount, asText, type JsonObject } from './json.js';

/** Of `usage.iterations`, where a model declined and another answered in its place (Anthropic). */
export interface Attempts {
  /** That answered. */
  model: string;
  /** Its own: the usage is that of the last, or of all of them. */
  own: readonly JsonObject[];
  /**
   * Of models that declined and are paid for: each that generated something, or whose reason to decline
   * is billed all the same. In no total.
   */
  declined: readonly JsonObject[];
}

/**
 * Null: the model that was asked answered, or declined, itself. `billed`: models whose reason to decline
 * is billed.
 */
export function readAttempts(
  iterations: readonly JsonObject[],
  billed: ReadonlySet<string>,
): Attempts | null {
  const model = asText(iterations.findLast(isAnswer)?.model);
  if (model === null) return null;
  const attempts = iterations.filter((each) => isAnswer(each) || each.type === 'message');
  const isOwn = (each: JsonObject) => (asText(each.model) ?? model) === model;
  const declined = attempts.filter((each) => !isOwn(each));
  const generated = declined.filter((each) => (asCount(each.output_tokens) ?? 0) > 0);
  const paid = new Set([...billed, ...generated.map((each) => asText(each.model))]);
  return {
    model,
    own: attempts.filter(isOwn),
    declined: declined.filter((each) => paid.has(asText(each.model))),
  };
}

function isAnswer({ type }: JsonObject): boolean {
  return type === 'fallback_message';
}
