import { asCount, asText, type JsonObject } from './json.js';

/** Of `usage.iterations`, where a model declined and another answered in its place (Anthropic). */
export interface Attempts {
  /** That answered. */
  model: string;
  /** Its own: the usage is that of the last, or of all of them. */
  own: readonly JsonObject[];
  /**
   * Of models that declined once they had generated something, which is paid for; in no total. An attempt
   * that was declined before that is not.
   */
  declined: readonly JsonObject[];
}

/** Null: the model that was asked answered, or declined, itself. */
export function readAttempts(iterations: readonly JsonObject[]): Attempts | null {
  const model = asText(iterations.findLast(isAnswer)?.model);
  if (model === null) return null;
  const attempts = iterations.filter((each) => isAnswer(each) || each.type === 'message');
  const isOwn = (each: JsonObject) => (asText(each.model) ?? model) === model;
  return {
    model,
    own: attempts.filter(isOwn),
    declined: attempts.filter((each) => !isOwn(each) && (asCount(each.output_tokens) ?? 0) > 0),
  };
}

function isAnswer({ type }: JsonObject): boolean {
  return type === 'fallback_message';
}
