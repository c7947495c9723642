/** Reading JSON that others wrote: nothing here throws, whatever the shape. */
export type JsonObject = Readonly<Record<string, unknown>>;

export function parseObject(text: string): JsonObject | null {
  try {
    return asObject(JSON.parse(text));
  } catch {
    return null;
  }
}

export function asObject(value: unknown): JsonObject | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  return value as JsonObject;
}

export function objectsIn(value: unknown): JsonObject[] {
  if (!Array.isArray(value)) return [];
  const objects: JsonObject[] = [];
  for (const each of value) {
    const object = asObject(each);
    if (object !== null) objects.push(object);
  }
  return objects;
}

/** Past any count of one answer; sums of such counts stay safe integers. */
const MAX_COUNT = 1e12;

/**
 * A count of tokens or calls, also as decimal text; null for what is none. Never negative, never
 * unsafe.
 */
export function asCount(value: unknown): number | null {
  const number = typeof value === 'string' && /^\d{1,13}$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !(number >= 0) || number > MAX_COUNT) return null;
  return Math.trunc(number) || 0;
}

export function asText(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

/** UTF-8 bytes of a text; 0 for anything else. */
export function byteLength(value: unknown): number {
  return typeof value === 'string' ? Buffer.byteLength(value) : 0;
}

/** The values of an object; of anything else none. */
export function valuesOf(value: unknown): unknown[] {
  return Object.values(asObject(value) ?? {});
}

const DECIMAL_TEXT =
  /^\s*\+?(?:US\$|USD|\$)?\s*(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?\s*(?:US\$|USD|\$)?\s*$/i;
const MAX_DECIMAL_LENGTH = 100;

/**
 * A decimal, 0 or more, in the digits that its sender wrote: parsing may have rounded a number, so
 * the last `"name": <number>` in the text that has its value is taken. Null for anything else.
 */
export function decimalText(text: string, name: string, value: unknown): string | null {
  if (typeof value === 'string') {
    if (value.length > MAX_DECIMAL_LENGTH) return null;
    const [, digits = '', exponent = ''] = DECIMAL_TEXT.exec(value) ?? [];
    if (digits === '') return null;
    return `${digits.startsWith('.') ? '0' : ''}${digits.replace(/\.$/, '')}${exponent}`;
  }
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) return null;
  const pattern = new RegExp(`"${name}"\\s*:\\s*(\\d+(?:\\.\\d+)?(?:[eE][+-]?\\d+)?)`, 'g');
  let found = String(value);
  for (const match of text.matchAll(pattern)) {
    if (match[1] !== undefined && Number(match[1]) === value) found = match[1];
  }
  return found;
}

/** Codes of those who tell of success with one. */
const FINE_CODES: ReadonlySet<string> = new Set(['0', '200', 'ok', 'success']);
/** Others have codes of their own for it, and say so. */
const FINE_MESSAGE = /^(the )?(request )?(ok|success\w*|succeeded)\b/i;
/** Where an answer that is none has nothing. */
const ANSWERS = ['data', 'results', 'output', 'images'] as const;

/**
 * The error of an answer that holds nothing else, as those name it who send it with a status of 200:
 * MiniMax (`base_resp`), Zhipu (`code`, `success`), Baidu (`error_code`), Cloudflare (`errors`).
 */
export function otherError(payload: JsonObject): string | null {
  const { object, success, error_code, base_resp, code, msg, message } = payload;
  const isFine = FINE_MESSAGE.test(asText(msg ?? message) ?? '');
  const isAnswer = isFine || ANSWERS.some((name) => holdsSomething(payload[name]));
  if (isAnswer && success !== false) return null;
  const [first] = objectsIn(payload.errors);
  if (first !== undefined) return errorName(first);
  const ownCode = asText(msg ?? message) === null ? null : code;
  const said = asObject(base_resp)?.status_code ?? error_code ?? ownCode;
  const name = typeof said === 'number' ? String(said) : asText(said);
  if (name !== null && !FINE_CODES.has(name.toLowerCase())) return name.slice(0, 200);
  return object === 'error' || success === false ? errorName(payload) : null;
}

/** A list, or an object with text, a list or an object in it: a status in numbers is nothing. */
function holdsSomething(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return valuesOf(value).some((each) =>
    Array.isArray(each) ? each.length > 0 : asObject(each) !== null || asText(each) !== null,
  );
}

/** Type or code of an error, as every format nests it; never its message. */
export function errorName(error: unknown): string | null {
  if (typeof error === 'string') return 'error';
  const object = asObject(error);
  if (object === null) return null;
  const code = typeof object.code === 'number' ? String(object.code) : asText(object.code);
  return (asText(object.type) ?? code ?? 'error').slice(0, 200);
}
