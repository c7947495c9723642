import { findMember } from './jsonMembers.js';

const NAME = Buffer.from('"usage"');
/** Where OpenAI puts it: last. What the last brace closes is the whole payload. */
const LAST = Buffer.from(',"usage":null}');
const DATA = Buffer.from('data:');
const LF = 0x0a;
const CR = 0x0d;
const COMMA = 0x2c;
const WHITESPACE = new Set([0x20, 0x09, 0x0a, 0x0d]);

/**
 * One event of a chat stream without the `"usage":null` that `include_usage` puts into each chunk:
 * what a client that did not ask would have been sent, to the byte. Strict clients refuse a
 * usage that is null. The same object where there is none.
 */
export function withoutNullUsage(event: Uint8Array): Uint8Array {
  const bytes = Buffer.from(event.buffer, event.byteOffset, event.byteLength);
  if (!bytes.includes(NAME)) return event;
  const data = bytes.indexOf(DATA);
  if (data < 0) return event;
  const from = data + DATA.length;
  const json = bytes.subarray(from, endOfLine(bytes, from));
  const last = json.length - LAST.length;
  const span =
    last > 0 && json.compare(LAST, 0, LAST.length, last) === 0
      ? { from: last, until: json.length - 1 }
      : findNullUsage(json);
  if (span === null) return event;
  return Buffer.concat([bytes.subarray(0, from + span.from), bytes.subarray(from + span.until)]);
}

function endOfLine(bytes: Buffer, from: number): number {
  for (let at = from; at < bytes.length; at++) {
    if (bytes[at] === LF || bytes[at] === CR) return at;
  }
  return bytes.length;
}

/** The member at the top level with one comma beside it. */
function findNullUsage(json: Buffer): { from: number; until: number } | null {
  const value = isObject(json) ? findMember(json, 'usage') : null;
  if (value === null || json.toString('latin1', value.from, value.until).trim() !== 'null') {
    return null;
  }
  const key = json.lastIndexOf(NAME, value.from);
  // A key that is written with escapes is left alone.
  if (key < 0 || json.toString('latin1', key + NAME.length, value.from).trim() !== ':') return null;
  let before = key - 1;
  while (WHITESPACE.has(json[before] as number)) before--;
  if (json[before] === COMMA) return { from: before, until: value.until };
  const isFollowed = json[value.until] === COMMA;
  return { from: key, until: isFollowed ? value.until + 1 : value.until };
}

function isObject(json: Buffer): boolean {
  try {
    return typeof JSON.parse(json.toString()) === 'object';
  } catch {
    return false;
  }
}
