import { isDay } from '../days.js';
import { parseInstant } from '../instant.js';
import { toMicrodollars } from '../money.js';
import type { ImportNotes } from './importNotes.js';

/** Why a row cannot be an event; the others are kept. */
export class RowProblem extends Error {}

const MAX_TAGS = 16;
const MAX_TAG_LENGTH = 64;

/**
 * A cost, USD to microdollars, rounded once. Never 0 because there is none: what an unknown cost is
 * must be said by whoever knows.
 */
export function readCost(column: string, cell: unknown, notes: ImportNotes): number {
  if (cell === undefined) throw new RowProblem(`${column} is empty: what it cost is not known`);
  const text = readText(cell) ?? '';
  try {
    const costMicrodollars = toMicrodollars(text);
    notes.cost(text, costMicrodollars);
    return costMicrodollars;
  } catch {
    throw new RowProblem(`${column} is not an amount in USD: ${quote(text)}`);
  }
}

/** The same where the column only describes; null when it is empty. */
export function readAmount(column: string, cell: unknown): number | null {
  if (cell === undefined) return null;
  try {
    return toMicrodollars(readText(cell) ?? '');
  } catch {
    throw new RowProblem(`${column} is not an amount in USD: ${quote(cell)}`);
  }
}

/** A count of tokens or requests; 0 when the cell is empty. */
export function readCount(column: string, cell: unknown): number {
  if (cell === undefined) return 0;
  const text = (readText(cell) ?? '').trim();
  if (!/^\d+(\.0*)?$/.test(text)) {
    throw new RowProblem(`${column} is not a whole number: ${quote(cell)}`);
  }
  return Number(text);
}

/** A finite number; null when the cell is empty or none. */
export function readNumber(cell: unknown): number | null {
  const text = readText(cell)?.trim() ?? '';
  const number = text === '' ? Number.NaN : Number(text);
  return Number.isFinite(number) ? number : null;
}

const LOCAL_TIME = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?$/;

/** An instant, as RFC 3339 or as PostgreSQL prints it; UTC where it names no offset. */
export function readTime(column: string, cell: unknown): { text: string; epochMs: number } {
  if (cell === undefined) throw new RowProblem(`${column} is empty`);
  const text = (readText(cell) ?? '').trim().replace(/ ?UTC$/, 'Z');
  const instant = parseInstant(
    LOCAL_TIME.test(text) ? `${text}Z` : isDay(text) ? `${text}T00:00:00Z` : text,
  );
  if (instant === null) {
    throw new RowProblem(
      `${column} is not a time like 2026-11-22T10:00:00Z or 2026-11-22 10:00:00 (UTC): ${quote(cell)}`,
    );
  }
  return instant;
}

/** Null when the cell is empty or cannot be text. Numbers become text: a spreadsheet's ids. */
export function readText(cell: unknown): string | null {
  if (typeof cell === 'string') return cell;
  return typeof cell === 'number' || typeof cell === 'boolean' ? String(cell) : null;
}

/** Cut where the ledger takes less: for what describes, where the rest of the row matters more. */
export function readCut(cell: unknown, maxLength: number): string | null {
  const text = readText(cell)?.trim().slice(0, maxLength);
  return text === undefined || text === '' ? null : text;
}

const TRUE = new Set(['true', 't', '1', 'yes']);
const FALSE = new Set(['false', 'f', '0', 'no']);

export function readBoolean(cell: unknown): boolean | null {
  const text = (readText(cell) ?? '').trim().toLowerCase();
  if (TRUE.has(text)) return true;
  return FALSE.has(text) ? false : null;
}

/** An object that is in the cell as JSON, also twice over, or in JSON Lines itself; empty when it is none. */
export function readObject(cell: unknown): Readonly<Record<string, unknown>> {
  const once = typeof cell === 'string' ? parseJson(cell) : cell;
  const value = typeof once === 'string' ? parseJson(once) : once;
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isObject ? (value as Record<string, unknown>) : {};
}

/** JSON (twice over, too), PostgreSQL's {a,b}, Python's ['a', 'b'], or a,b; what is no tag is told. */
export function readTags(cell: unknown, notes: ImportNotes): string[] {
  const all = new Set(listOf(cell).map((tag) => tag.trim()));
  all.delete('');
  const fitting = [...all].filter((tag) => tag.length <= MAX_TAG_LENGTH).sort();
  if (fitting.length < all.size) notes.leftOut(`tags of more than ${MAX_TAG_LENGTH} characters`);
  if (fitting.length > MAX_TAGS) notes.leftOut(`tags beyond the first ${MAX_TAGS} of a row`);
  return fitting.slice(0, MAX_TAGS);
}

function listOf(cell: unknown): string[] {
  if (Array.isArray(cell)) return cell.flatMap((tag) => readText(tag) ?? []);
  if (typeof cell !== 'string') return [];
  const parsed = parseJson(cell);
  if (Array.isArray(parsed) || typeof parsed === 'string') return listOf(parsed);
  if (typeof parsed === 'object') return [];
  const inner = /^\s*[[{](.*)[\]}]\s*$/s.exec(cell)?.[1] ?? cell;
  return inner.split(',').map((tag) => tag.trim().replace(/^(['"])(.*)\1$/s, '$2'));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function quote(cell: unknown): string {
  return JSON.stringify(readText(cell)?.slice(0, 40) ?? typeof cell);
}
