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
/** Uncompressed at once: some hundred events. */
const BLOCK_BYTES = 128 * 1024;
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
    for (const { id, kilo_user_id, organization_id, cost, created_at } of next.value) {
      rows.push({ id, kilo_user_id, organization_id: organization_id ?? null, cost, created_at });
    }
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
    for await (const events of readEvents(fileSystem, path, file)) yield* events;
  }
}

/**
 * Events of one file, some hundred at once, for a turn of each would cost more than its reading. At its end
 * what it was: throws there if the digest is wrong.
 */
async function* readEvents(
  fileSystem: ArchiveFileSystem,
  path: string,
  file: ArchiveFileName,
): AsyncGenerator<ArchivedEvent[], Pick<ProvenFile, 'header' | 'sha256'>> {
  const hash = createHash('sha256');
  const ids = new Set<string>();
  let header: ArchiveHeader | null = null;
  let cost = 0n;
  // One line behind: the last one is the trailer, and no part of the digest.
  let held: Buffer | null = null;
  for await (const block of readBlocks(fileSystem, path, file)) {
    const lastStart = block.lastIndexOf(NEWLINE, -2) + 1;
    const known = Buffer.concat([held ?? Buffer.alloc(0), block.subarray(0, lastStart)]);
    held = block.subarray(lastStart);
    hash.update(known);
    const events: ArchivedEvent[] = [];
    // What is behind the last newline is no line.
    for (const line of known.toString('utf8').split('\n').slice(0, -1)) {
      if (header === null) {
        header = readHeader(line, file);
        continue;
      }
      const event = readEvent(line, file);
      if (ids.size === ids.add(event.id).size) throw damaged(file, `two lines are ${event.id}`);
      cost += BigInt(event.cost);
      events.push(event);
    }
    yield events;
  }
  if (header === null || held === null) throw damaged(file, 'it is cut off');
  const trailer = readTrailer(held.toString(), file);
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

/** What a file holds, uncompressed, in blocks of whole lines. */
async function* readBlocks(
  fileSystem: ArchiveFileSystem,
  path: string,
  file: ArchiveFileName,
): AsyncGenerator<Buffer> {
  const source = Readable.from(fileSystem.read(path));
  const gunzip = createGunzip({ chunkSize: BLOCK_BYTES });
  source.on('error', (error) => gunzip.destroy(error));
  source.pipe(gunzip);
  let rest: Buffer = Buffer.alloc(0);
  try {
    for await (const chunk of gunzip as AsyncIterable<Buffer>) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      if (end > 0) yield bytes.subarray(0, end);
      rest = bytes.subarray(end);
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
