import type { Failure } from './api.js';
import { sentence } from './sentence.js';

/** What is typed as an amount; the server reads and refuses it. */
export function typedUsd(text: string): string {
  return text.trim().replace(/^\$\s*/, '');
}

/** What a refusal says about this field; null where it is about another one, or none. */
export function problemOf(failure: Failure | null, field: string): string | null {
  if (failure === null || failure.details.field !== field) return null;
  const { message } = failure;
  const bare = message.startsWith(field)
    ? message.slice(field.length).replace(/^[:\s]+/, '')
    : message;
  return sentence(bare);
}
