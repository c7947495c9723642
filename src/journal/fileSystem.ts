import { constants } from 'node:fs';
import { type FileHandle, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { directoriesOfNames, makeDirectories } from '../directories.js';

/** An open segment. Positions and lengths in bytes. */
export interface JournalFile {
  /** May write fewer bytes than it was given. @returns bytes written */
  write(data: Uint8Array, position: number): Promise<number>;
  read(length: number, position: number): Promise<Buffer>;
  /** fdatasync: what was written, and the length, survive a power cut. */
  sync(): Promise<void>;
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

/** The boundary to the disk, so that tests can inject its faults. */
export interface FileSystem {
  /** And those above it, durably. */
  makeDirectory(path: string): Promise<void>;
  /** Names in a directory. */
  list(path: string): Promise<string[]>;
  /** Fails when the file exists. */
  create(path: string): Promise<JournalFile>;
  /** For reading and writing; fails when there is no file. */
  open(path: string): Promise<JournalFile>;
  /** Null when there is no file. */
  readFile(path: string): Promise<Buffer | null>;
  /** At the end, durably; makes the file when there is none. */
  append(path: string, data: Uint8Array): Promise<void>;
  /** Whole or not at all, durably: draft, sync, rename, sync of the directory. */
  replace(path: string, data: Uint8Array): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in it durable. */
  syncDirectory(path: string): Promise<void>;
}

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/** Files 0600, directories 0700: the journal holds what people wrote (I11). */
export const nodeFileSystem: FileSystem = {
  async makeDirectory(path) {
    const made = makeDirectories(path, DIRECTORY_MODE);
    for (const parent of directoriesOfNames(path, made)) await syncDirectory(parent);
  },
  list: (path) => readdir(path),
  create: async (path) => toJournalFile(await open(path, 'wx+', FILE_MODE)),
  open: async (path) => toJournalFile(await open(path, 'r+')),
  async readFile(path) {
    try {
      return await readFile(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  },
  async append(path, data) {
    const handle = await open(path, 'a', FILE_MODE);
    try {
      await writeAll(toJournalFile(handle), data, 0);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await syncDirectory(parentOf(path));
  },
  async replace(path, data) {
    const draft = `${path}.${process.pid}.draft`;
    const handle = await open(draft, 'w', FILE_MODE);
    try {
      await writeAll(toJournalFile(handle), data, 0);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(draft, path);
    await syncDirectory(parentOf(path));
  },
  remove: (path) => rm(path, { force: true }),
  syncDirectory,
};

/** Writes on after short writes. @throws the system's error (ENOSPC, EIO, ...) */
export async function writeAll(
  file: JournalFile,
  data: Uint8Array,
  position: number,
): Promise<void> {
  let written = 0;
  while (written < data.length) {
    const count = await file.write(data.subarray(written), position + written);
    if (count <= 0) throw Object.assign(new Error('the disk took no bytes'), { code: 'EIO' });
    written += count;
  }
}

function toJournalFile(handle: FileHandle): JournalFile {
  return {
    async write(data, position) {
      const { bytesWritten } = await handle.write(data, 0, data.length, position);
      return bytesWritten;
    },
    async read(length, position) {
      const buffer = Buffer.alloc(length);
      let filled = 0;
      while (filled < length) {
        const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return buffer.subarray(0, filled);
    },
    sync: () => handle.datasync(),
    truncate: (length) => handle.truncate(length),
    close: () => handle.close(),
  };
}

async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open a directory; NTFS journals its entries itself.
  if (process.platform === 'win32') return;
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\'))) || '.';
}
