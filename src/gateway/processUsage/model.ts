import { asText, type JsonObject } from './json.js';

/** Of a name: patterns, ours and the operator's, may take the square of the length of what they match. */
export const MAX_MODEL_CHARACTERS = 512;

/** The model that a request names; null: none. */
export function readModel({ model }: JsonObject): string | null {
  return asText(model)?.slice(0, MAX_MODEL_CHARACTERS) ?? null;
}
