import type { JsonObject } from './json.js';

/** Rule of thumb for every tokenizer: UTF-8 bytes of text for a token. */
export const BYTES_PER_TOKEN = 4;
/** An image or another file, whatever its size. */
const TOKENS_PER_FILE = 1_000;
/** Encoded content rather than text. */
export const FILE_PREFIX = /^data:[\w.+-]+\/[\w.+-]+[;,]/;
const FILE_MEMBERS: ReadonlySet<string> = new Set(['data', 'file_data', 'image_url', 'url']);
const PROMPT_MEMBERS = ['messages', 'input', 'instructions', 'system', 'tools', 'functions'];
/** Values looked at; a prompt of more is estimated by its share. */
const MAX_VALUES = 200_000;

/** Tokens of a request's prompt, from the bytes of its texts. At least 1. */
export function estimateInputTokens(request: JsonObject): number {
  let bytes = 0;
  let files = 0;
  const stack: [name: string, value: unknown][] = PROMPT_MEMBERS.map((name) => [
    name,
    request[name],
  ]);
  for (let seen = 0; seen < MAX_VALUES; seen++) {
    const next = stack.pop();
    if (next === undefined) break;
    const [name, value] = next;
    if (typeof value === 'string') {
      if (isFile(name, value)) files++;
      else bytes += Buffer.byteLength(value);
    } else if (Array.isArray(value)) {
      for (const each of value) stack.push([name, each]);
    } else if (typeof value === 'object' && value !== null) {
      for (const [key, each] of Object.entries(value)) stack.push([key, each]);
    }
  }
  return Math.max(1, Math.ceil(bytes / BYTES_PER_TOKEN)) + files * TOKENS_PER_FILE;
}

export function isFile(name: string, value: string): boolean {
  if (!FILE_MEMBERS.has(name)) return false;
  return (
    FILE_PREFIX.test(value) || /^https?:/.test(value) || (name === 'data' && value.length > 256)
  );
}
