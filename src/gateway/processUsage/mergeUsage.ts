import { asCount, asObject, type JsonObject, valuesOf } from './json.js';

/** Deeper than any provider nests its usage, and more than any of them tells. */
const MAX_DEPTH = 6;
const MAX_MEMBERS = 256;

/**
 * Replaced as a whole: what was written to the cache, split by lifetime. Of parts that each only
 * grew, one could be counted twice where a provider moves it from one lifetime to the other.
 */
const SPLITS: ReadonlySet<string> = new Set(['cache_creation', 'cache_creation_token_details']);

/**
 * Usage as it stands after a later report of it. Counts are cumulative, so none ever falls: a later
 * zero, a smaller number or a null hides nothing that was counted before. Names come out in snake
 * case, so that one table of them serves those who write `promptTokens`.
 */
export function mergeUsage(before: JsonObject, later: JsonObject, depth = 0): JsonObject {
  const merged: Record<string, unknown> = { ...before };
  let free = MAX_MEMBERS - Object.keys(before).length;
  for (const [key, value] of Object.entries(later)) {
    // Assigned, it would set the prototype.
    if (key === '__proto__') continue;
    const name = toSnakeCase(key);
    const isNew = !Object.hasOwn(merged, name);
    if (isNew && free-- <= 0) continue;
    merged[name] = mergeValue(name, isNew ? undefined : merged[name], value, depth);
  }
  return merged;
}

export function toSnakeCase(name: string): string {
  if (!/[A-Z]/.test(name)) return name;
  return name.replace(/([a-z0-9])(?=[A-Z])/g, '$1_').toLowerCase();
}

function mergeValue(name: string, before: unknown, later: unknown, depth: number): unknown {
  const [old, next] = [asObject(before), asObject(later)];
  if (before === undefined || before === null) {
    return next !== null && depth < MAX_DEPTH ? mergeUsage({}, next, depth + 1) : later;
  }
  if (later === undefined || later === null) return before;
  if (old !== null && next !== null) {
    if (SPLITS.has(name)) return sumOf(next) >= sumOf(old) ? mergeUsage({}, next, depth + 1) : old;
    return depth < MAX_DEPTH ? mergeUsage(old, next, depth + 1) : next;
  }
  if (Array.isArray(before) && Array.isArray(later)) {
    return later.length >= before.length ? later : before;
  }
  const [was, is] = [asAmount(before), asAmount(later)];
  if (was !== null) return is !== null && is >= was ? later : (next ?? before);
  return old ?? (Array.isArray(before) ? before : later);
}

/** A count or an amount, 0 or more, also as text. */
function asAmount(value: unknown): number | null {
  const amount = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  return typeof amount === 'number' && amount >= 0 && Number.isFinite(amount) ? amount : null;
}

function sumOf(split: JsonObject): number {
  return valuesOf(split).reduce<number>((sum, value) => sum + (asCount(value) ?? 0), 0);
}
