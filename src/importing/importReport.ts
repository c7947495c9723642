import { toExactInteger } from '../money.js';
import type { ImportNotes, MappingReport } from './importNotes.js';
import type { ImportFormat } from './types.js';

/** How many rejected lines are told apart; all are counted. */
const MAX_LISTED_REJECTIONS = 20;

export interface Rejection {
  file: string;
  /** From 1. */
  line: number;
  code: string;
  reason: string;
}

export interface ImportCounts {
  /** Lines that hold, or should hold, an event: no header, no blank lines. */
  lines: number;
  recorded: number;
  duplicates: number;
  rejected: number;
}

export interface ImportReport extends ImportCounts {
  files: ({ file: string; format: ImportFormat } & ImportCounts)[];
  /** Cost of what this run recorded, microdollars; a bigint past 2^53. */
  recorded_cost_microdollars: number | bigint;
  /** Cost of what was there already, microdollars. */
  duplicate_cost_microdollars: number | bigint;
  nul_bytes_removed: number;
  /** The first of the rejected lines. */
  rejections: Rejection[];
  /** Of another product's export: how it was read. */
  mapping?: MappingReport;
  /** Nothing was written: `recorded` is what would be. */
  dry_run?: true;
}

/** Adds up what became of the lines. */
export class ImportTally {
  readonly files: ImportReport['files'] = [];
  readonly rejections: Rejection[] = [];
  nulBytesRemoved = 0;
  #recordedCost = 0n;
  #duplicateCost = 0n;

  beginFile(file: string, format: ImportFormat): FileTally {
    const counts = { file, format, lines: 0, recorded: 0, duplicates: 0, rejected: 0 };
    this.files.push(counts);
    return {
      line: () => {
        counts.lines += 1;
      },
      accept: (status, costMicrodollars) => {
        counts[status === 'recorded' ? 'recorded' : 'duplicates'] += 1;
        if (status === 'recorded') this.#recordedCost += BigInt(costMicrodollars);
        else this.#duplicateCost += BigInt(costMicrodollars);
      },
      reject: (line, code, reason) => {
        counts.rejected += 1;
        this.#list({ file, line, code, reason });
      },
    };
  }

  report(notes: ImportNotes | null): ImportReport {
    const sum = (field: keyof ImportCounts) =>
      this.files.reduce((total, file) => total + file[field], 0);
    return {
      lines: sum('lines'),
      recorded: sum('recorded'),
      duplicates: sum('duplicates'),
      rejected: sum('rejected'),
      recorded_cost_microdollars: toExactInteger(this.#recordedCost),
      duplicate_cost_microdollars: toExactInteger(this.#duplicateCost),
      nul_bytes_removed: this.nulBytesRemoved,
      files: this.files,
      rejections: this.rejections,
      ...(notes === null ? {} : { mapping: notes.report() }),
    };
  }

  /** Batches end out of order: keep the lowest lines of the earliest files. */
  #list(rejection: Rejection): void {
    const fileOrder = (one: Rejection) => this.files.findIndex((file) => file.file === one.file);
    this.rejections.push(rejection);
    this.rejections.sort((a, b) => fileOrder(a) - fileOrder(b) || a.line - b.line);
    this.rejections.splice(MAX_LISTED_REJECTIONS);
  }
}

export interface FileTally {
  line(): void;
  accept(status: 'recorded' | 'duplicate', costMicrodollars: number): void;
  reject(line: number, code: string, reason: string): void;
}
