import { existsSync, rmSync } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat } from 'node:fs/promises';
import { diskFault } from '../diskFaults.js';
import { LedgerError } from '../errors.js';
import type { ExportFormat } from './exportFormats.js';
import type { Interruption } from './interruption.js';
import type { Output } from './output.js';

/** Where the text of an export goes; waits for a slow reader. */
export interface ExportTarget {
  write(text: string): Promise<void>;
  close(): Promise<void>;
  /** Of what is not whole. */
  abandon(): void;
}

/** How to go on where an export has gone out as it came. */
export const NOT_WHOLE = 'what was written is not whole; run it again';

export function toOutput(output: Output, { fail }: ExportFormat): ExportTarget {
  return {
    async write(text) {
      if (fail !== undefined && text !== '') output.openDocument(fail);
      await output.write(text);
    },
    close: async () => output.closeDocument(),
    abandon: () => {},
  };
}

/**
 * A file that has its name once it is whole: until then what had that name stays, and for good unless
 * `isReplaced`. What is no file, like a pipe, is written as it is.
 * @throws LedgerError `invalid_request` for a path, or a file that is there, `unavailable` for a disk that is
 * full or failed
 */
export async function toFile(
  path: string,
  interruption: Interruption,
  { isReplaced }: { isReplaced: boolean },
): Promise<ExportTarget> {
  const fail = (error: NodeJS.ErrnoException) => {
    throw failedOnFile(path, error);
  };
  const found = await stat(path).catch((error) => (error.code === 'ENOENT' ? null : fail(error)));
  if (found !== null && !found.isFile()) {
    interruption.remark = NOT_WHOLE;
    const file = await open(path, 'w').catch(fail);
    return {
      write: (text) => file.writeFile(text).catch(fail),
      close: () => file.close().catch(fail),
      abandon: () => void file.close().catch(() => {}),
    };
  }
  if (found !== null && !isReplaced) throw isThere(path);
  // Beside the file itself, where its name is a link.
  const name = found === null ? path : await realpath(path);
  const draft = `${name}.${process.pid}.draft`;
  const remove = () => rmSync(draft, { force: true });
  const file = await openDraft(draft, found?.mode).catch(fail);
  interruption.signal.addEventListener('abort', remove);
  return {
    write: (text) => file.writeFile(text).catch(fail),
    async close() {
      await file
        .sync()
        .then(() => file.close())
        .catch(fail);
      // Another one meanwhile.
      if (!isReplaced && existsSync(name)) throw isThere(path);
      await rename(draft, name).catch(fail);
      interruption.signal.removeEventListener('abort', remove);
    },
    abandon() {
      remove();
      void file.close().catch(() => {});
    },
  };
}

function isThere(path: string): LedgerError {
  return new LedgerError('invalid_request', `${path} is there already; --overwrite replaces it`, {
    details: { field: 'out', file: path },
  });
}

/** What people did, for its owner alone; or with the rights of the file that it takes the place of. */
async function openDraft(draft: string, mode: number | undefined): Promise<FileHandle> {
  const file = await open(draft, 'w', 0o600);
  if (mode !== undefined) await file.chmod(mode & 0o777);
  return file;
}

export function failedOnFile(path: string, error: NodeJS.ErrnoException): LedgerError {
  const fault = diskFault(error.code);
  const what = fault === null ? '' : `; ${fault}, and nothing of the export is kept`;
  return new LedgerError(
    fault === null ? 'invalid_request' : 'unavailable',
    `cannot write ${path} (${error.code})${what}`,
    { details: { file: path, system_error: error.code }, cause: error },
  );
}
