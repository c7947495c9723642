import {
  type FileSystem,
  type JournalFile,
  nodeFileSystem,
} from '../../../src/journal/fileSystem.js';

/** The real disk, with as much room left as the test says. */
export interface FullDisk extends FileSystem {
  /** Bytes; Infinity: no limit. A write that does not fit is cut short, then refused. */
  room: number;
  /** Writes refused so far. */
  readonly refusals: number;
}

export function createFullDisk(): FullDisk {
  const state = { room: Number.POSITIVE_INFINITY, refusals: 0 };
  const refuse = (): never => {
    state.refusals++;
    throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  };
  /** Room for a part of it is taken. */
  const take = (bytes: number): number => {
    const taken = Math.min(bytes, state.room);
    if (taken <= 0) refuse();
    state.room -= taken;
    return taken;
  };
  const limit = (file: JournalFile): JournalFile => ({
    ...file,
    write: (data, position) => file.write(data.subarray(0, take(data.length)), position),
  });
  /** All or nothing. */
  const takeWhole = ({ length }: Uint8Array) => {
    if (length > state.room) refuse();
    state.room -= length;
  };
  return {
    ...nodeFileSystem,
    create: async (path) => {
      take(1);
      return limit(await nodeFileSystem.create(path));
    },
    open: async (path) => limit(await nodeFileSystem.open(path)),
    append: async (path, data) => {
      takeWhole(data);
      await nodeFileSystem.append(path, data);
    },
    replace: async (path, data) => {
      takeWhole(data);
      await nodeFileSystem.replace(path, data);
    },
    get room() {
      return state.room;
    },
    set room(bytes) {
      state.room = bytes;
    },
    get refusals() {
      return state.refusals;
    },
  };
}
