import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { LedgerError } from '../../errors.js';
import { isUuid } from '../../ids.js';
import {
  type ArchiveFileName,
  type ArchiveHeader,
  archiveFilesIn,
  damaged,
  parseLine,
  readHeader,
  readTrailer,
} from './fileFormat.js';
import { type ArchiveFileSystem, diskError, nodeArchiveFileSystem, onDisk } from './fileSystem.js';

const NEWLINE = 0x0a;
const INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$/;

/** What ties an archived event to its raw row. */
export interface ArchivedRow {
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  /** Microdollars; a decimal string past 2^53. */
  cost: number | string;
  created_at: string;
}

/** An event as it was recorded; fields that were null are absent. Lookups of metadata by value. */
export type ArchivedEvent = ArchivedRow & {
  metadata?: Record<string, string | number | boolean | readonly string[]>;
} & Record<string, unknown>;

/** What a file was found to hold; every line was read, and the digest is right. */
export interface ProvenFile {
  header: ArchiveHeader;
  rows: ArchivedRow[];
  costMicrodollars: bigint;
  /** By `keyOf`. */
  costByKey: Map<string, bigint>;
  sha256: string;
}

/** The rollup key of a row within its day. */
export function keyOf(row: { kilo_user_id: string; organization_id: string | null }): string {
  return `${row.organization_id ?? '-'} ${row.kilo_user_id}`;
}

/**
 * Reads a whole file and proves that it is what was written: digest, count, sum, one day.
 * @param path where it lies; `file` is what it is, or is to be, called
 * @throws LedgerError `internal` for any damage
 */
export async function proveFile(
  fileSystem: ArchiveFileSystem,
  path: string,
  file: ArchiveFileName,
): Promise<ProvenFile> {
  const rows: ArchivedRow[] = [];
  const reading = readEvents(fileSystem, path, file);
  for (;;) {
    const next = await reading.next();
    if (next.done) {
      const costByKey = new Map<string, bigint>();
      let costMicrodollars = 0n;
      for (const row of rows) {
        const key = keyOf(row);
        costByKey.set(key, (costByKey.get(key) ?? 0n) + BigInt(row.cost));
        costMicrodollars += BigInt(row.cost);
      }
      return { ...next.value, rows, costByKey, costMicrodollars };
    }
    const { id, kilo_user_id, organization_id, cost, created_at } = next.value;
    rows.push({ id, kilo_user_id, organization_id: organization_id ?? null, cost, created_at });
  }
}

/**
 * The events of an archive directory, oldest day first. Each file is proven before its first
 * event is given out. Days are inclusive.
 * @throws LedgerError `internal` for a damaged file, `invalid_request` for the directory
 */
export async function* readArchive(
  directory: string,
  range: { from?: string; until?: string } = {},
  fileSystem: ArchiveFileSystem = nodeArchiveFileSystem,
): AsyncGenerator<ArchivedEvent> {
  const names = await onDisk(directory, () => fileSystem.list(directory));
  for (const file of archiveFilesIn(names)) {
    if (range.from !== undefined && file.day < range.from) continue;
    if (range.until !== undefined && file.day > range.until) continue;
    const path = join(directory, file.name);
    await proveFile(fileSystem, path, file);
    yield* readEvents(fileSystem, path, file);
  }
}

/** Events of one file, and at its end what it was: throws there if the digest is wrong. */
async function* readEvents(
  fileSystem: ArchiveFileSystem,
  path: string,
  file: ArchiveFileName,
): AsyncGenerator<ArchivedEvent, Pick<ProvenFile, 'header' | 'sha256'>> {
  const hash = createHash('sha256');
  const ids = new Set<string>();
  let header: ArchiveHeader | null = null;
  let cost = 0n;
  // One line behind: the last one is the trailer, and no part of the digest.
  let held: string | null = null;
  for await (const line of readLines(fileSystem, path, file)) {
    if (held !== null) {
      hash.update(`${held}\n`);
      if (header === null) header = readHeader(held, file);
      else {
        const event = readEvent(held, file);
        if (ids.size === ids.add(event.id).size) throw damaged(file, `two lines are ${event.id}`);
        cost += BigInt(event.cost);
        yield event;
      }
    }
    held = line;
  }
  if (header === null || held === null) throw damaged(file, 'it is cut off');
  const trailer = readTrailer(held, file);
  const sha256 = hash.digest('hex');
  if (trailer.sha256 !== sha256) throw damaged(file, 'its SHA-256 differs');
  if (trailer.events !== ids.size || BigInt(trailer.cost_microdollars) !== cost) {
    throw damaged(file, 'count or sum differ from its trailer');
  }
  return { header, sha256 };
}

function readEvent(line: string, file: ArchiveFileName): ArchivedEvent {
  const event = parseLine(line, file) as ArchivedEvent;
  if (
    !isUuid(event.id) ||
    typeof event.kilo_user_id !== 'string' ||
    !isExactInteger(event.cost) ||
    !INSTANT.test(event.created_at)
  ) {
    throw damaged(file, 'a line is not a usage event');
  }
  if (!event.created_at.startsWith(file.day)) {
    throw damaged(file, `event ${event.id} is not of its day`);
  }
  return event;
}

function isExactInteger(value: unknown): boolean {
  return Number.isSafeInteger(value) || (typeof value === 'string' && /^-?\d+$/.test(value));
}

async function* readLines(
  fileSystem: ArchiveFileSystem,
  path: string,
  file: ArchiveFileName,
): AsyncGenerator<string> {
  const source = Readable.from(fileSystem.read(path));
  const gunzip = createGunzip();
  source.on('error', (error) => gunzip.destroy(error));
  source.pipe(gunzip);
  let rest: Buffer = Buffer.alloc(0);
  try {
    for await (const chunk of gunzip as AsyncIterable<Buffer>) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let from = 0;
      for (let to = bytes.indexOf(NEWLINE); to >= 0; to = bytes.indexOf(NEWLINE, from)) {
        yield bytes.toString('utf8', from, to);
        from = to + 1;
      }
      rest = bytes.subarray(from);
    }
  } catch (error) {
    const code = String((error as { code?: unknown }).code ?? '');
    if (code.startsWith('Z_')) throw damaged(file, 'it cannot be uncompressed', error);
    throw error instanceof LedgerError ? error : diskError(path, error);
  } finally {
    source.destroy();
    gunzip.destroy();
  }
  if (rest.length > 0) throw damaged(file, 'it is cut off');
}
