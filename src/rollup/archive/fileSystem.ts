import { constants } from 'node:fs';
import { access, link, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { makeDirectories } from '../../directories.js';
import { diskFault } from '../../diskFaults.js';
import { LedgerError } from '../../errors.js';

/** A file that is being written, from its beginning. */
export interface ArchiveFile {
  write(data: Uint8Array): Promise<void>;
  /** fsync: what was written survives a power cut. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The boundary to the disk, so that tests can inject its faults. */
export interface ArchiveFileSystem {
  /** And those above it. @returns the first that was made, absolute */
  makeDirectory(path: string): Promise<string | undefined>;
  list(path: string): Promise<string[]>;
  /** Fails when the file exists. */
  create(path: string): Promise<ArchiveFile>;
  read(path: string): AsyncIterable<Uint8Array>;
  /** A draft gets its name; fails when the name is taken. */
  name(draft: string, path: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes names in a directory durable. */
  syncDirectory(path: string): Promise<void>;
}

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
/** File systems without hard links. */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);

/** Files 0600, directories 0700: they hold what people did. */
export const nodeArchiveFileSystem: ArchiveFileSystem = {
  async makeDirectory(path) {
    return makeDirectories(path, DIRECTORY_MODE);
  },
  list: (path) => readdir(path),
  async create(path) {
    const handle = await open(path, 'wx', FILE_MODE);
    return {
      async write(data) {
        await handle.writeFile(data);
      },
      sync: () => handle.sync(),
      close: () => handle.close(),
    };
  },
  async *read(path) {
    const handle = await open(path, 'r');
    // Ends the handle as well, also when the reader stops early.
    yield* handle.createReadStream();
  },
  async name(draft, path) {
    try {
      // A rename would silently replace a file of the same name.
      await link(draft, path);
      await rm(draft);
    } catch (error) {
      if (!NO_LINKS.has(codeOf(error))) throw error;
      await rename(draft, path);
    }
  },
  remove: (path) => rm(path, { force: true }),
  async syncDirectory(path) {
    // Windows cannot open a directory; NTFS journals its entries itself.
    if (process.platform === 'win32') return;
    const handle = await open(path, constants.O_RDONLY);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

/**
 * Runs a disk operation; its failures say what and where.
 * @throws LedgerError `unavailable` for a full disk, `invalid_request` for a directory that cannot
 *   be used
 */
export async function onDisk<T>(directory: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw diskError(directory, error);
  }
}

export function diskError(directory: string, error: unknown): unknown {
  const code = codeOf(error);
  if (error instanceof LedgerError || !isSystemError(error)) return error;
  const details = { directory, system_error: code };
  const fault = diskFault(code);
  if (fault !== null) {
    return new LedgerError(
      'unavailable',
      `${fault} (${code}) at ${directory}; no usage was deleted that is not in a proven file; ` +
        'make room and run the archive again',
      { details, cause: error },
    );
  }
  return new LedgerError('invalid_request', `cannot use the directory ${directory} (${code})`, {
    details: { ...details, field: 'out' },
    cause: error,
  });
}

/** Whether the directory, or the one it would be made in, can be written; makes nothing. */
export async function requireUsableDirectory(directory: string): Promise<void> {
  await onDisk(directory, async () => {
    for (let path = resolve(directory); ; path = dirname(path)) {
      try {
        await access(path, constants.W_OK | constants.X_OK);
        return;
      } catch (error) {
        if (codeOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
      }
    }
  });
}

/** An error of the operating system about a file: it has a code and names the call. */
function isSystemError(error: unknown): boolean {
  const { code, syscall } = (error ?? {}) as { code?: unknown; syscall?: unknown };
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) && syscall !== 'connect';
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | null)?.code ?? '');
}
