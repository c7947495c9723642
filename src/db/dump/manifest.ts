import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LedgerError } from '../../errors.js';

/** A directory: this file, and for each table `<table>.copy.gz`, what COPY gives, compressed. */
export const FORMAT = 'microdollar-dump';
const VERSION = 1;
const MANIFEST = 'manifest.json';

export interface DumpedTable {
  name: string;
  columns: string[];
  rows: number;
  /** SHA-256, hex, of what COPY gave. */
  sha256: string;
  /** Columns that hold more than migrations make them for, as an adopted table's may; absent: none. */
  wider?: WiderColumns;
}

export interface WiderColumns {
  /** Null in some rows. */
  nullable: string[];
  /** `bigint` in place of `integer`. */
  bigint: string[];
}

export interface DumpedSequence {
  table: string;
  column: string;
  /** Text: 64 bits. */
  lastValue: string;
  isCalled: boolean;
}

export interface Manifest {
  format: typeof FORMAT;
  version: number;
  /** ISO 8601. */
  written_at: string;
  database: string;
  /** Where it was; it may be restored into another. Absent in dumps of before: `public`. */
  schema?: string;
  server_version: string;
  /** Names of the migrations that made the tables; a program that knows them all can restore. */
  migrations: string[];
  tables: DumpedTable[];
  sequences: DumpedSequence[];
}

export function tableFile(directory: string, table: string): string {
  return join(directory, `${table}.copy.gz`);
}

export function manifestFile(directory: string): string {
  return join(directory, MANIFEST);
}

/** Last, into an empty file: a directory without it, or with an empty one, is no dump. */
export async function writeManifest(
  directory: string,
  manifest: Omit<Manifest, 'format' | 'version'>,
): Promise<void> {
  const whole: Manifest = { format: FORMAT, version: VERSION, ...manifest };
  const text = `${JSON.stringify(whole, null, 2)}\n`;
  await writeFile(manifestFile(directory), text, { flag: 'r+', flush: true });
}

/** @throws LedgerError `invalid_request` where there is no whole dump of this format */
export async function readManifest(directory: string): Promise<Manifest> {
  const refuse = (problem: string, cause?: unknown) =>
    new LedgerError('invalid_request', `${directory} ${problem}`, {
      details: { field: 'dir' },
      cause,
    });
  let text: string;
  try {
    text = await readFile(manifestFile(directory), 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw refuse(`holds no whole dump: its ${MANIFEST} cannot be read (${code})`, error);
  }
  const manifest = parse(text);
  if (manifest?.format !== FORMAT || !Array.isArray(manifest.tables)) {
    throw refuse('is not a dump of microdollar');
  }
  if (manifest.version !== VERSION) {
    throw refuse(`is a dump of format ${manifest.version}, this program reads ${VERSION}`);
  }
  // Loaded here: most commands read none.
  const { findMisshapen } = await import('./manifestShape.js');
  const misshapen = findMisshapen(manifest);
  if (misshapen !== null) {
    const { field, problem } = misshapen;
    throw refuse(
      `has a ${MANIFEST} that no dump wrote: ${field} ${problem}; ` +
        'restore it as `dump` wrote it, or dump again',
    );
  }
  return manifest;
}

function parse(text: string): Manifest | null {
  try {
    return JSON.parse(text) as Manifest;
  } catch {
    return null;
  }
}
