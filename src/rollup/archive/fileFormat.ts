import { readDay } from '../../days.js';
import { LedgerError } from '../../errors.js';

/**
 * An archive file: gzip of JSON lines. One header, the events in the words of `UsageEvent`
 * (as `import` reads them), one trailer. Named by UTC day and part.
 */
export const FORMAT = 'microdollar-archive';
export const FORMAT_VERSION = 1;

export interface ArchiveHeader {
  format: typeof FORMAT;
  version: number;
  table: 'microdollar_usage';
  /** The database that the rows come from. */
  database: string;
  /** And its schema; absent in files of before. */
  schema?: string;
  /** UTC day of every event in the file. */
  day: string;
  part: number;
  /** Whether metadata that may identify a person was kept. */
  personal_data: boolean;
  archive_horizon: string;
  written_at: string;
}

export interface ArchiveTrailer {
  end: true;
  events: number;
  /** Sum of `cost`; text, for it may exceed what a JSON number holds exactly. */
  cost_microdollars: string;
  /** SHA-256, hex, of all bytes before the trailer, uncompressed. */
  sha256: string;
}

const NAME = /^microdollar_usage-(\d{4}-\d{2}-\d{2})-(\d{5,})\.jsonl\.gz$/;
const DRAFT = /^microdollar_usage-.*\.draft$/;

export function archiveFileName(day: string, part: number): string {
  return `microdollar_usage-${day}-${String(part).padStart(5, '0')}.jsonl.gz`;
}

export interface ArchiveFileName {
  name: string;
  day: string;
  part: number;
}

/** Archive files among the names of a directory, by day and part. */
export function archiveFilesIn(names: readonly string[]): ArchiveFileName[] {
  const files = names.flatMap((name) => {
    const match = NAME.exec(name);
    return match ? [{ name, day: match[1] ?? '', part: Number(match[2]) }] : [];
  });
  return files.sort((a, b) => (a.day === b.day ? a.part - b.part : a.day < b.day ? -1 : 1));
}

/** A draft never had its rows deleted. */
export function isDraft(name: string): boolean {
  return DRAFT.test(name);
}

/** @throws LedgerError `internal` when it is not the header that the name promises */
export function readHeader(line: string, file: ArchiveFileName): ArchiveHeader {
  const header = parseLine(line, file) as Partial<ArchiveHeader>;
  if (header.format !== FORMAT || header.version !== FORMAT_VERSION) {
    throw damaged(file, 'it does not begin with an archive header of this version');
  }
  if (header.day !== file.day || header.part !== file.part) {
    throw damaged(file, `its header says ${header.day}, part ${header.part}`);
  }
  readDay('day', file.day);
  return header as ArchiveHeader;
}

export function readTrailer(line: string, file: ArchiveFileName): ArchiveTrailer {
  const trailer = parseLine(line, file) as Partial<ArchiveTrailer>;
  if (
    trailer.end !== true ||
    !Number.isSafeInteger(trailer.events) ||
    !/^-?\d+$/.test(String(trailer.cost_microdollars)) ||
    !/^[0-9a-f]{64}$/.test(String(trailer.sha256))
  ) {
    throw damaged(file, 'it does not end with a trailer');
  }
  return trailer as ArchiveTrailer;
}

export function parseLine(line: string, file: ArchiveFileName): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Told below; the parser's message would quote the line.
  }
  throw damaged(file, 'a line is not a JSON object');
}

export function damaged(file: ArchiveFileName, problem: string, cause?: unknown): LedgerError {
  return new LedgerError(
    'internal',
    `archive file ${file.name} is damaged: ${problem}; nothing was deleted on its account. It may ` +
      'be the only copy of rows deleted before: restore it from a copy, do not remove it',
    { details: { file: file.name, day: file.day }, cause },
  );
}
