import { crc32 } from 'node:zlib';
import { LedgerError } from '../errors.js';
import type { FileSystem } from './fileSystem.js';
import { decodeFrame, SEGMENT_KIND, SEGMENT_MAGIC } from './frame.js';
import { type Damage, scanSegment } from './scan.js';

/** A file of records. Named for the sequence number of its first one. */
export interface Segment {
  name: string;
  firstSequence: number;
  /** Of its last record; firstSequence - 1 while it has none. */
  lastSequence: number;
  /** Durable, valid bytes. */
  bytes: number;
  /** Of its first record, ms since the epoch. */
  firstWrittenAtMs: number | null;
  /** Records of it that opening found damaged, and has told of. */
  missingRecords: number;
}

/** What opening found; everything that is not a whole record is named and kept aside. */
export interface OpenReport {
  /** Records waiting to be acknowledged. */
  records: number;
  /** Writes that a crash cut off; nobody was told that they are durable. */
  tornTails: number;
  tornBytes: number;
  /** Damage before valid records, or in a segment that was closed: acknowledged data was lost. */
  corruptions: number;
  missingRecords: number;
  /** Copies of the bytes that are no record. */
  damagedFiles: string[];
}

const SUFFIX = '.journal';
const POSITION_FILE = 'acknowledged';
const DAMAGED_DIRECTORY = 'damaged';

export function segmentName(firstSequence: number): string {
  return `${String(firstSequence).padStart(16, '0')}${SUFFIX}`;
}

/** Names of the segments, oldest first. */
export async function listSegments(fileSystem: FileSystem, directory: string): Promise<string[]> {
  const names = await fileSystem.list(directory);
  return names.filter((name) => /^\d{16}\.journal$/.test(name)).sort();
}

/** Every record up to this one is in the database. 0 when nothing, or nothing legible, is noted. */
export async function readPosition(fileSystem: FileSystem, directory: string): Promise<number> {
  const text = (await fileSystem.readFile(`${directory}/${POSITION_FILE}`))?.toString() ?? '';
  const match = /^(\d+) ([0-9a-f]{8})\n$/.exec(text);
  // Too low is safe: what is drained twice is recorded once (I3).
  if (match === null || checksumOf(match[1] ?? '') !== match[2]) return 0;
  return Number(match[1]);
}

export function writePosition(
  fileSystem: FileSystem,
  directory: string,
  sequence: number,
): Promise<void> {
  const text = `${sequence} ${checksumOf(String(sequence))}\n`;
  return fileSystem.replace(`${directory}/${POSITION_FILE}`, Buffer.from(text));
}

function checksumOf(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}

/**
 * Reads every segment as a crash may have left it: cuts off the torn tail of the last one, sets
 * aside a copy of whatever is no record, removes segments that are acknowledged whole.
 */
export async function recoverSegments(
  fileSystem: FileSystem,
  directory: string,
  acknowledged: number,
): Promise<{ segments: Segment[]; report: OpenReport; lastSequence: number }> {
  const report: OpenReport = {
    records: 0,
    tornTails: 0,
    tornBytes: 0,
    corruptions: 0,
    missingRecords: 0,
    damagedFiles: [],
  };
  const names = await listSegments(fileSystem, directory);
  const segments: Segment[] = [];
  let last = 0;
  for (const name of names) {
    const path = `${directory}/${name}`;
    const firstSequence = Number(name.slice(0, -SUFFIX.length));
    const gap = firstSequence - 1 - Math.max(last, acknowledged);
    if (gap > 0) report.missingRecords += gap;
    const content = (await fileSystem.readFile(path)) ?? Buffer.alloc(0);
    checkVersion(name, content);
    const scan = scanSegment(content, Math.max(last, firstSequence - 1));
    for (const damage of scan.damages) {
      const copy = await setAside(fileSystem, directory, name, damage);
      if (copy !== null) report.damagedFiles.push(copy);
      const isTorn = damage.isTail && name === names.at(-1);
      if (isTorn) {
        report.tornTails++;
        report.tornBytes += damage.bytes.length;
      } else report.corruptions++;
    }
    if (scan.validBytes < content.length) await cutTail(fileSystem, path, scan.validBytes);
    const before = Math.max(last, firstSequence - 1);
    last = Math.max(before, scan.records.at(-1)?.sequence ?? 0);
    if (scan.records.length === 0 || last <= acknowledged) {
      await fileSystem.remove(path);
      continue;
    }
    const waiting = scan.records.filter((record) => record.sequence > acknowledged);
    // What is damaged and was acknowledged is in the database.
    const missingRecords = last - Math.max(before, acknowledged) - waiting.length;
    report.records += waiting.length;
    report.missingRecords += missingRecords;
    segments.push({
      name,
      firstSequence,
      lastSequence: last,
      bytes: scan.validBytes,
      firstWrittenAtMs: waiting[0]?.writtenAtMs ?? null,
      missingRecords,
    });
  }
  return { segments, report, lastSequence: Math.max(last, acknowledged) };
}

/** A copy of damaged bytes, for a person to look at. @returns its path in the directory */
export async function setAside(
  fileSystem: FileSystem,
  directory: string,
  segment: string,
  damage: Pick<Damage, 'offset' | 'bytes'>,
): Promise<string | null> {
  if (damage.bytes.every((byte) => byte === 0)) return null;
  const folder = `${directory}/${DAMAGED_DIRECTORY}`;
  await fileSystem.makeDirectory(folder);
  const name = `${segment.slice(0, -SUFFIX.length)}-${damage.offset}.bytes`;
  await fileSystem.replace(`${folder}/${name}`, damage.bytes);
  return `${DAMAGED_DIRECTORY}/${name}`;
}

/** A damaged header is none of another version. */
function checkVersion(name: string, content: Buffer): void {
  const header = decodeFrame(content, 0);
  if (header?.kind !== SEGMENT_KIND || header.payload.toString() === SEGMENT_MAGIC) return;
  throw new LedgerError(
    'internal',
    `journal segment ${name} was written by another version: ${header.payload.toString()}`,
  );
}

async function cutTail(fileSystem: FileSystem, path: string, length: number): Promise<void> {
  const file = await fileSystem.open(path);
  try {
    await file.truncate(length);
    await file.sync();
  } finally {
    await file.close();
  }
}
