import type { FileSystem, JournalFile } from '../../src/journal/fileSystem.js';

interface Content {
  bytes: Buffer;
  /** What a power cut leaves for sure; bytes after its end may survive in part. */
  durable: Buffer;
}

export type Operation = 'create' | 'open' | 'write' | 'sync' | 'truncate' | 'remove' | 'append';
/** Null: it works. A number: a write takes that many bytes. A code: it fails with it. */
export type Fault = string | number | null;

/** A disk in memory that can fail, and lose power between any two operations. */
export class MemoryDisk implements FileSystem {
  fault: (operation: Operation, path: string) => Fault = () => null;
  readonly files = new Map<string, Content>();
  /** Entries that a power cut leaves for sure. */
  readonly #durableEntries = new Map<string, Content>();

  /**
   * The disk after a power cut. `random` in [0, 1) decides what of the unsynced state survives:
   * directory entries, and for every file how much of what was written and not synced.
   */
  afterPowerCut(random: () => number): MemoryDisk {
    const paths = new Set([...this.files.keys(), ...this.#durableEntries.keys()]);
    const after = new Map<string, Content>();
    for (const path of paths) {
      const isNew = !this.#durableEntries.has(path);
      const isRemoved = !this.files.has(path);
      if (isNew && random() < 0.5) continue;
      if (isRemoved && random() < 0.5) continue;
      const content = this.files.get(path) ?? (this.#durableEntries.get(path) as Content);
      const unsynced = content.bytes.subarray(content.durable.length);
      const kept = unsynced.subarray(0, Math.floor(random() * (unsynced.length + 1)));
      const bytes = Buffer.concat([content.durable, kept]);
      after.set(path, { bytes, durable: Buffer.from(bytes) });
    }
    const disk = new MemoryDisk();
    for (const [path, content] of after) {
      disk.files.set(path, content);
      disk.#durableEntries.set(path, content);
    }
    return disk;
  }

  async makeDirectory(): Promise<void> {}

  async list(directory: string): Promise<string[]> {
    const prefix = `${directory}/`;
    return [...this.files.keys()]
      .filter((path) => path.startsWith(prefix) && !path.slice(prefix.length).includes('/'))
      .map((path) => path.slice(prefix.length));
  }

  async create(path: string): Promise<JournalFile> {
    this.#check('create', path);
    if (this.files.has(path)) throw failure('EEXIST');
    this.files.set(path, { bytes: Buffer.alloc(0), durable: Buffer.alloc(0) });
    return this.#file(path);
  }

  async open(path: string): Promise<JournalFile> {
    this.#check('open', path);
    if (!this.files.has(path)) throw failure('ENOENT');
    return this.#file(path);
  }

  async readFile(path: string): Promise<Buffer | null> {
    const content = this.files.get(path);
    return content === undefined ? null : Buffer.from(content.bytes);
  }

  async append(path: string, data: Uint8Array): Promise<void> {
    this.#check('append', path);
    const bytes = Buffer.concat([this.files.get(path)?.bytes ?? Buffer.alloc(0), data]);
    await this.replace(path, bytes);
  }

  async replace(path: string, data: Uint8Array): Promise<void> {
    const content = { bytes: Buffer.from(data), durable: Buffer.from(data) };
    this.files.set(path, content);
    this.#durableEntries.set(path, content);
  }

  async remove(path: string): Promise<void> {
    this.#check('remove', path);
    this.files.delete(path);
  }

  async syncDirectory(directory: string): Promise<void> {
    const prefix = `${directory}/`;
    for (const path of this.#durableEntries.keys()) {
      if (path.startsWith(prefix) && !this.files.has(path)) this.#durableEntries.delete(path);
    }
    for (const [path, content] of this.files) {
      if (path.startsWith(prefix)) this.#durableEntries.set(path, content);
    }
  }

  #check(operation: Operation, path: string): number | null {
    const fault = this.fault(operation, path);
    if (typeof fault === 'string') throw failure(fault);
    return fault;
  }

  #file(path: string): JournalFile {
    const content = this.files.get(path) as Content;
    return {
      write: async (data, position) => {
        await turn();
        const limit = this.#check('write', path) ?? data.length;
        const written = data.subarray(0, limit);
        const before = content.bytes.subarray(0, position);
        const after = content.bytes.subarray(position + written.length);
        content.bytes = Buffer.concat([before, written, after]);
        return written.length;
      },
      read: async (length, position) =>
        Buffer.from(content.bytes.subarray(position, position + length)),
      sync: async () => {
        await turn();
        this.#check('sync', path);
        content.durable = Buffer.from(content.bytes);
      },
      truncate: async (length) => {
        this.#check('truncate', path);
        content.bytes = content.bytes.subarray(0, length);
        // The file system may or may not have written the new length.
        content.durable = content.durable.subarray(0, Math.min(length, content.durable.length));
      },
      close: async () => {},
    };
  }
}

/** The power may go before and after. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function failure(code: string): Error {
  return Object.assign(new Error(`${code}: planted`), { code });
}
