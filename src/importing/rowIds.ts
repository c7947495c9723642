import { createHash } from 'node:crypto';
import { uuidFromHash } from '../ids.js';
import { parseInstant } from '../instant.js';
import { type ValidEvent, validateEvent } from '../record/event.js';
import type { UsageEvent } from '../record/types.js';
import { Occurrences } from './occurrences.js';

/** Floating-point columns (durations, coordinates) that a spreadsheet saves with fewer digits. */
const COMPARED_DIGITS = 6;

export function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** The id of what another system calls `key`: the same name is the same row, or key. */
export function idOfKey(kind: string, key: string): string {
  return uuidFromHash(sha256(JSON.stringify([kind, key])));
}

/**
 * The ids of one file's rows that carry none (I3): hash of the content and of the number of the
 * occurrence among rows of equal content, so that a file that grew, was sorted, or was saved anew gives
 * its rows the ids that they had. Content is what the row means: columns in any order, a time by any
 * offset, 5 or 5.0, null or absent or the default.
 */
export class RowIds {
  readonly #occurrences = new Occurrences();

  /** @throws LedgerError `invalid_event` */
  idOf(event: UsageEvent): string {
    return uuidFromHash(hashOccurrence(contentOf(event), this.#occurrences));
  }
}

/** SHA-256("<SHA-256 of the content, hex>:<occurrence>"), occurrences from 1. */
export function hashOccurrence(content: string, occurrences: Occurrences): Buffer {
  const hash = sha256(content);
  return sha256(`${hash.toString('hex')}:${occurrences.count(hash)}`);
}

/** @throws LedgerError `invalid_event` */
export function contentOf(event: UsageEvent): string {
  const { created_at: createdAt, ...rest } = event;
  // The time is checked where the event goes, for it may be moved by whole days before.
  const valid = validateEvent(rest as UsageEvent, { nulBytesRemoved: 0 });
  const { metadata, lookups, ...core } = valid;
  const fields: Record<string, unknown> = {
    ...core,
    ...prefixed(metadata ?? {}),
    ...prefixed(lookups),
    id: null,
    created_at: parseInstant(createdAt)?.text ?? createdAt ?? null,
  };
  const told = Object.entries(fields)
    .map(([name, value]) => [name, roundFraction(value)] as const)
    .filter(([name, value]) => name === 'cost' || !isDefault(value))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(told);
}

function prefixed(fields: ValidEvent['metadata'] | ValidEvent['lookups']): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields ?? {}).map(([name, value]) => [`metadata.${name}`, value]),
  );
}

/** As a field that a later version adds would be, so that ids stay what they are. */
function isDefault(value: unknown): boolean {
  return value === null || value === undefined || value === 0 || value === false || value === '';
}

function roundFraction(value: unknown): unknown {
  if (typeof value !== 'number' || Number.isInteger(value)) return value;
  return Number(value.toPrecision(COMPARED_DIGITS));
}
