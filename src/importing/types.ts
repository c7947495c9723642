import type { UsageEvent } from '../record/types.js';

export const IMPORT_FORMATS = ['jsonl', 'csv', 'azure-llm', 'litellm', 'openrouter'] as const;
export type ImportFormat = (typeof IMPORT_FORMATS)[number];

/** Exports of other products, whose columns are mapped to those of an event. */
export type ForeignFormat = Extract<ImportFormat, 'litellm' | 'openrouter'>;

/**
 * One physical line of a file; numbers start at 1. `before`: what stands between it and the one before,
 * line ends and blank lines.
 */
export type Line =
  | { line: number; before: string; text: string }
  | { line: number; problem: string };

/**
 * One event of a file, or why its line holds none. `key`: what the source itself calls the row, where
 * it does. `fatal`: the rest of the file is not read.
 */
export type ImportedLine =
  | { line: number; event: UsageEvent; key?: string }
  | { line: number; problem: string; fatal?: true };

export type EventReader = (lines: AsyncIterable<Line>) => AsyncIterable<ImportedLine>;

/** Counts NUL bytes removed from a file's lines. */
export interface LineCleaning {
  nulBytesRemoved: number;
}
