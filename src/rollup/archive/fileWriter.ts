import type { DayReader } from './dayReader.js';
import type { ArchiveFileName, ArchiveHeader } from './fileFormat.js';
import type { ArchiveFileSystem } from './fileSystem.js';
import type { ArchivedRow } from './readFile.js';
import type { ArchiveStep } from './types.js';
import { proveDraft, type WrittenDraft, writeDraft } from './writeFile.js';

/** A proven draft: it has no name yet, and none of its rows was moved. */
export interface WrittenFile {
  file: ArchiveFileName;
  draft: WrittenDraft;
  rows: ArchivedRow[];
}

/** Of a day's first file: while it is written there is nothing to move. */
const FIRST_ROWS = 4_000;

export interface FileWriterOptions {
  reader: DayReader;
  fileSystem: ArchiveFileSystem;
  directory: string;
  rowsPerFile: number;
  /** Number of the first file. */
  part: number;
  fileOf: (part: number) => { file: ArchiveFileName; header: ArchiveHeader };
  onStep: (step: ArchiveStep) => void;
}

/**
 * Writes a day's rows to files, each while the rows of the one before are moved: reading and compressing
 * is this process's work, moving is the server's. One file ahead at most, for each is held in memory.
 */
export class FileWriter {
  readonly #options: FileWriterOptions;
  #part: number;
  #ahead: Promise<WrittenFile | null> | null = null;

  constructor(options: FileWriterOptions) {
    this.#options = options;
    this.#part = options.part;
  }

  /** Begins the file that `next` will give. Its failure is told there. */
  begin(): void {
    this.#ahead ??= this.#write(this.#part++);
    this.#ahead.catch(() => {});
  }

  /** Null: there are no more rows. @throws what writing and proving throw */
  async next(): Promise<WrittenFile | null> {
    this.begin();
    const written = this.#ahead;
    this.#ahead = null;
    return await written;
  }

  /** Whatever was begun and not taken is given up. */
  async close(): Promise<void> {
    const written = await this.#ahead?.catch(() => null);
    if (written) await this.#options.fileSystem.remove(written.draft.path).catch(() => {});
  }

  async #write(part: number): Promise<WrittenFile | null> {
    const { reader, fileSystem, directory, rowsPerFile, fileOf, onStep } = this.#options;
    const { file, header } = fileOf(part);
    const limit = part === this.#options.part ? Math.min(FIRST_ROWS, rowsPerFile) : rowsPerFile;
    const draft = await writeDraft(fileSystem, directory, header, reader.take(limit));
    if (draft === null) return null;
    onStep('written');
    const { rows } = await proveDraft(fileSystem, draft, file);
    onStep('proven');
    return { file, draft, rows };
  }
}
