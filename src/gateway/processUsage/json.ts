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
  return Array.isArray(value) ? value.map(asObject).filter((each) => each !== null) : [];
}

/** Past any count of one answer; sums of such counts stay safe integers. */
const MAX_COUNT = 1e12;

/** A count of tokens or calls; null for what is none. Never negative, never unsafe. */
export function asCount(value: unknown): number | null {
  if (typeof value !== 'number' || !(value >= 0) || value > MAX_COUNT) return null;
  return Math.trunc(value) || 0;
}

export function asText(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

/** UTF-8 bytes of a text; 0 for anything else. */
export function byteLength(value: unknown): number {
  return typeof value === 'string' ? Buffer.byteLength(value) : 0;
}

/**
 * The digits of a number as the sender wrote them, which parsing may have rounded: the last
 * `"name": <number>` in the text that has this value.
 */
export function decimalText(text: string, name: string, value: unknown): string | null {
  if (typeof value === 'string') return /^-?\d+(\.\d+)?$/.test(value) ? value : null;
  if (typeof value !== 'number' || !Number.isFinite(value)) return null;
  const pattern = new RegExp(`"${name}"\\s*:\\s*(-?\\d+(?:\\.\\d+)?(?:[eE][+-]?\\d+)?)`, 'g');
  let found = String(value);
  for (const match of text.matchAll(pattern)) {
    if (match[1] !== undefined && Number(match[1]) === value) found = match[1];
  }
  return found;
}

/** Type or code of an error, as every format nests it; never its message. */
export function errorName(error: unknown): string | null {
  if (typeof error === 'string') return 'error';
  const object = asObject(error);
  if (object === null) return null;
  const code = typeof object.code === 'number' ? String(object.code) : asText(object.code);
  return (asText(object.type) ?? code ?? 'error').slice(0, 200);
}
