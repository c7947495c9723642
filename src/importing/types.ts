import type { UsageEvent } from '../record/types.js';

export const IMPORT_FORMATS = ['jsonl', 'csv', 'azure-llm'] as const;
export type ImportFormat = (typeof IMPORT_FORMATS)[number];

/** One physical line of a file; numbers start at 1. */
export type Line = { line: number; text: string } | { line: number; problem: string };

/** One event of a file, or why its line holds none. `fatal`: the rest of the file is not read. */
export type ImportedLine =
  | { line: number; event: UsageEvent }
  | { line: number; problem: string; fatal?: true };

export type EventReader = (lines: AsyncIterable<Line>) => AsyncIterable<ImportedLine>;

/** Counts NUL bytes removed from a file's lines. */
export interface LineCleaning {
  nulBytesRemoved: number;
}
