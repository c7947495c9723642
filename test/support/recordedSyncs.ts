import { readdirSync, readFileSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { vi } from 'vitest';

/** What a sync made durable: a file's bytes, or the names in a directory with what they held then. */
export type Synced =
  | { what: 'file'; names: string[]; bytes: string }
  | { what: 'directory'; entries: Record<string, string> };

/**
 * Listens to every fsync and fdatasync that this process asks the real file system for, and notes
 * what was there at that moment in `directory`. A draft that is renamed before it is synced shows as
 * a name without a sync of its bytes.
 */
export async function recordSyncs(directory: string): Promise<Synced[]> {
  const synced: Synced[] = [];
  const handle = await open(directory, 'r');
  const prototype = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  for (const name of ['sync', 'datasync'] as const) {
    const original = prototype[name];
    vi.spyOn(prototype, name).mockImplementation(async function (this: FileHandle) {
      await original.call(this);
      const { ino } = await this.stat();
      synced.push(describe(directory, ino));
    });
  }
  return synced;
}

function describe(directory: string, ino: number): Synced {
  const names = readdirSync(directory);
  if (statSync(directory).ino === ino) {
    const entries = names.map((name) => [name, contentOf(directory, name)] as const);
    return { what: 'directory', entries: Object.fromEntries(entries) };
  }
  const own = names.filter((name) => statSync(path.join(directory, name)).ino === ino);
  return { what: 'file', names: own, bytes: own[0] ? contentOf(directory, own[0]) : '' };
}

function contentOf(directory: string, name: string): string {
  const file = path.join(directory, name);
  return statSync(file).isDirectory() ? '' : readFileSync(file, 'latin1');
}
