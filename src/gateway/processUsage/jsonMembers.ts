const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const COMMA = 0x2c;
const OPENING_BRACE = 0x7b;
const WHITESPACE = new Set([0x20, 0x09, 0x0a, 0x0d]);
const OPENING = new Set([OPENING_BRACE, 0x5b]);
const CLOSING = new Set([0x7d, 0x5d]);

/**
 * Sets one member of a JSON object in its bytes and leaves every other byte as it is: what a
 * parser and a serializer would do to large numbers, repeated keys or spacing, this does not.
 * `json` is the text of an object, already known to be valid.
 */
export function setMember(json: Buffer, name: string, value: unknown): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  const span = findMember(json, name);
  return span === null ? addMember(json, name, value) : splice(json, span.from, span.until, text);
}

/** The same where the object is known to have no such member: a long prompt is not looked through. */
export function addMember(json: Buffer, name: string, value: unknown): Buffer {
  const text = JSON.stringify(value);
  const end = json.lastIndexOf('}');
  let last = end - 1;
  while (WHITESPACE.has(json[last] as number)) last--;
  const isEmpty = json[last] === OPENING_BRACE;
  const member = Buffer.from(`${isEmpty ? '' : ','}${JSON.stringify(name)}:${text}`);
  return splice(json, end, end, member);
}

function splice(bytes: Buffer, from: number, until: number, put: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(until)]);
}

/** Where the value of the last such member at the top level lies: parsers keep the last one. */
export function findMember(json: Buffer, name: string): Member | null {
  return membersOf(json).findLast((member) => member.name === name) ?? null;
}

export interface Member {
  name: string;
  /** Of its value. */
  from: number;
  until: number;
}

/** Those at the top level, in order, with repeated ones. */
export function membersOf(json: Buffer): Member[] {
  let depth = 0;
  let key: string | null = null;
  let valueFrom = -1;
  const found: Member[] = [];
  const endValue = (until: number) => {
    if (valueFrom !== -1 && key !== null) found.push({ name: key, from: valueFrom, until });
    valueFrom = -1;
    key = null;
  };
  for (let at = 0; at < json.length; at++) {
    const byte = json[at] as number;
    if (byte === QUOTE) {
      const from = at;
      at = endOfString(json, at);
      if (depth === 1 && valueFrom === -1) key = JSON.parse(json.toString('utf8', from, at + 1));
    } else if (OPENING.has(byte)) depth++;
    else if (CLOSING.has(byte)) {
      depth--;
      if (depth === 0) endValue(at);
    } else if (depth === 1 && byte === COLON) valueFrom = at + 1;
    else if (depth === 1 && byte === COMMA) endValue(at);
  }
  return found;
}

/** The closing quote of the string that opens at `from`: the next that no odd run of backslashes escapes. */
function endOfString(json: Buffer, from: number): number {
  // Not byte by byte: a prompt is one long string.
  let at = json.indexOf(QUOTE, from + 1);
  while (at !== -1) {
    let first = at;
    while (json[first - 1] === BACKSLASH) first--;
    if ((at - first) % 2 === 0) return at;
    at = json.indexOf(QUOTE, at + 1);
  }
  return json.length;
}
