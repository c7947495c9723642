import type { JsonObject } from './json.js';

/** Rule of thumb for every tokenizer: UTF-8 bytes of text for a token. */
export const BYTES_PER_TOKEN = 4;
/** An image or another file, whatever its size. */
export const TOKENS_PER_FILE = 1_000;
/** Of a recording: 16 kB a second. */
export const AUDIO_TOKENS_PER_SECOND = 10;
export const AUDIO_BYTES_PER_TOKEN = 16_000 / AUDIO_TOKENS_PER_SECOND;
/** Encoded content rather than text. */
export const FILE_PREFIX = /^data:[\w.+-]+\/[\w.+-]+[;,]/;
const FILE_MEMBERS: ReadonlySet<string> = new Set(['data', 'file_data', 'image_url', 'url']);
const PROMPT_MEMBERS = ['messages', 'input', 'instructions', 'system', 'tools', 'functions'];
/** Values looked at; a prompt of more is estimated by its share. */
const MAX_VALUES = 200_000;

/** Tokens of a request's prompt, from the bytes of its texts. At least 1. */
export function estimateInputTokens(request: JsonObject): number {
  const { bytes, files } = countPrompt(request, PROMPT_MEMBERS, isFile);
  return Math.max(1, Math.ceil(bytes / BYTES_PER_TOKEN)) + files * TOKENS_PER_FILE;
}

/** What these members hold: bytes of texts, files, and the numbers of token lists. */
export function countPrompt(
  request: JsonObject,
  members: readonly string[],
  isFileText: (name: string, value: string) => boolean,
): { bytes: number; files: number; numbers: number } {
  const count = { bytes: 0, files: 0, numbers: 0 };
  const stack: [name: string, value: unknown][] = members.map((name) => [name, request[name]]);
  for (let seen = 0; seen < MAX_VALUES; seen++) {
    const next = stack.pop();
    if (next === undefined) break;
    const [name, value] = next;
    if (typeof value === 'string') {
      if (isFileText(name, value)) count.files++;
      else count.bytes += Buffer.byteLength(value);
    } else if (typeof value === 'number') {
      count.numbers++;
    } else if (Array.isArray(value)) {
      if (value.every((each) => typeof each === 'number')) count.numbers += value.length;
      else for (const each of value) stack.push([name, each]);
    } else if (typeof value === 'object' && value !== null) {
      for (const [key, each] of Object.entries(value)) stack.push([key, each]);
    }
  }
  return count;
}

export function isFile(name: string, value: string): boolean {
  if (!FILE_MEMBERS.has(name)) return false;
  return (
    FILE_PREFIX.test(value) || /^https?:/.test(value) || (name === 'data' && value.length > 256)
  );
}
