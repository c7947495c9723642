import path from 'node:path';
import { StartLock } from '../db/embedded/membership.js';
import { DeadLetterFile } from './deadLetters.js';
import { type FileSystem, nodeFileSystem } from './fileSystem.js';
import { scanSegment } from './scan.js';
import { listSegments, readPosition } from './segments.js';
import { LOCK_DIRECTORY, listSlots, slotDirectory } from './slots.js';

/** One journal of a data directory, as it is on disk. */
export interface JournalSummary {
  slot: number;
  /** Process that owns it now; null = nobody: it will be adopted. */
  pid: number | null;
  /** Records that are not in the database yet. */
  records: number;
  bytes: number;
  /** ISO 8601; null when there are none. */
  oldestAt: string | null;
  /** Copies of bytes that were no record, paths; to be looked at, then deleted. */
  damagedFiles: string[];
  deadLetters: number;
}

/** Looks without touching, also while a process owns the journals: for `status`. */
export async function inspectJournals(
  root: string,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<JournalSummary[]> {
  const summaries: JournalSummary[] = [];
  for (const slot of await listSlots(root, fileSystem)) {
    const directory = slotDirectory(root, slot);
    const content = await readJournal(directory, fileSystem);
    const { letters } = await new DeadLetterFile(directory, fileSystem).read();
    const damaged = await fileSystem.list(path.join(directory, 'damaged')).catch(() => []);
    summaries.push({
      slot,
      pid: new StartLock(path.join(directory, LOCK_DIRECTORY)).holder()?.pid ?? null,
      ...content,
      damagedFiles: damaged.sort().map((name) => path.join(directory, 'damaged', name)),
      deadLetters: letters.length,
    });
  }
  return summaries;
}

async function readJournal(
  directory: string,
  fileSystem: FileSystem,
): Promise<Pick<JournalSummary, 'records' | 'bytes' | 'oldestAt'>> {
  const acknowledged = await readPosition(fileSystem, directory);
  let records = 0;
  let bytes = 0;
  let oldestAtMs: number | null = null;
  for (const name of await listSegments(fileSystem, directory)) {
    const content = await fileSystem.readFile(path.join(directory, name));
    // Drained since it was listed.
    if (content === null) continue;
    bytes += content.length;
    for (const record of scanSegment(content, 0).records) {
      if (record.sequence <= acknowledged) continue;
      oldestAtMs ??= record.writtenAtMs;
      records++;
    }
  }
  return {
    records,
    bytes,
    oldestAt: oldestAtMs === null ? null : new Date(oldestAtMs).toISOString(),
  };
}
