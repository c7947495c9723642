import type { Mutant } from './mutant.js';

const FILES = 'src/journal/fileSystem.ts';
const JOURNAL = 'src/journal/journal.ts';
const STORE = 'src/journal/segmentStore.ts';

/** The local log, for when the database is away. */
export const JOURNAL_MUTANTS: readonly Mutant[] = [
  {
    name: 'journal: a file is replaced before its draft is on the disk',
    file: FILES,
    search: `const handle = await open(draft, 'w', FILE_MODE);
    try {
      await writeAll(toJournalFile(handle), data, 0);
      await handle.sync();`,
    replace: `const handle = await open(draft, 'w', FILE_MODE);
    try {
      await writeAll(toJournalFile(handle), data, 0);`,
    tests: ['unit/journalFiles', 'unit/durableFiles'],
  },
  {
    name: 'journal: the name of a replaced file is not on the disk',
    file: FILES,
    search: `await rename(draft, path);
    await syncDirectory(parentOf(path));`,
    replace: 'await rename(draft, path);',
    tests: ['unit/journalFiles', 'unit/durableFiles'],
  },
  {
    name: 'journal: an appended line is not on the disk',
    file: FILES,
    search: `const handle = await open(path, 'a', FILE_MODE);
    try {
      await writeAll(toJournalFile(handle), data, 0);
      await handle.sync();`,
    replace: `const handle = await open(path, 'a', FILE_MODE);
    try {
      await writeAll(toJournalFile(handle), data, 0);`,
    tests: ['unit/journalFiles', 'unit/durableFiles'],
  },
  {
    name: 'journal: a segment is synced in name only',
    file: FILES,
    search: 'sync: () => handle.datasync(),',
    replace: 'sync: async () => {},',
    tests: ['unit/journalFiles', 'unit/durableFiles'],
  },
  {
    name: 'journal: answers without fsync',
    file: STORE,
    search: `await writeAll(file, frames, segment.bytes);
    await file.sync();`,
    replace: 'await writeAll(file, frames, segment.bytes);',
    tests: ['unit/journal', 'unit/journalModel'],
  },
  {
    name: 'journal: a new segment may be lost with its name',
    file: STORE,
    search: `await file.sync();
    await this.fileSystem.syncDirectory(this.directory);
    segment.bytes = header.length;`,
    replace: `await file.sync();
    segment.bytes = header.length;`,
    tests: ['unit/journal', 'unit/journalModel'],
  },
  {
    name: 'journal: what was refused comes back',
    file: STORE,
    search: 'await file.truncate(segment.bytes);',
    replace: '',
    tests: ['unit/journal', 'unit/journalModel'],
  },
  {
    name: 'journal: takes records after a failed write',
    file: JOURNAL,
    search: 'if (this.#failure !== null) return failed(this.#failure);',
    replace: '',
    tests: ['unit/journal', 'unit/journalModel'],
    changesNothing: 'the group is refused by the failure when it is written',
  },
  {
    name: 'journal: a file is removed before it is noted that it was drained',
    file: JOURNAL,
    search: `await writePosition(this.#store.fileSystem, this.#store.directory, sequence);
    this.#acknowledged = sequence;
    await this.#store.removeUpTo(sequence);`,
    replace: `await this.#store.removeUpTo(sequence);
    await writePosition(this.#store.fileSystem, this.#store.directory, sequence);
    this.#acknowledged = sequence;`,
    tests: ['unit/journal', 'unit/journalModel'],
  },
  {
    name: 'journal: a bit flip is read as a record',
    file: 'src/journal/frame.ts',
    search:
      'if (crc32(bytes.subarray(offset + 8, end)) !== bytes.readUInt32LE(offset + 4)) return null;',
    replace: '',
    tests: ['unit/journal', 'unit/journalModel'],
  },
  {
    name: 'journal: grows past its size',
    file: JOURNAL,
    search: 'neededBytes + framing > this.#maxBytes;',
    replace: 'neededBytes + framing > this.#maxBytes * 2;',
    tests: ['unit/journal'],
  },
  {
    name: 'journal: a process writes on after another has taken over',
    file: JOURNAL,
    search: "if (!this.#isOwner()) throw new Error('another process has taken over the journal');",
    replace: '',
    tests: ['unit/journal', 'unit/journalModel'],
  },
];
