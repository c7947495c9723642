import { type FileSystem, type JournalFile, writeAll } from './fileSystem.js';
import { encodeSegmentHeader } from './frame.js';
import { type Segment, segmentName } from './segments.js';

/** The segments on disk and the one that is written to. Callers take turns (journal.ts). */
export class SegmentStore {
  readonly directory: string;
  readonly fileSystem: FileSystem;
  readonly #segmentBytes: number;
  /** Oldest first. */
  readonly #segments: Segment[];
  /** Of the last segment, unless that was left by an earlier process. */
  #active: JournalFile | null = null;
  #bytes: number;

  constructor(
    directory: string,
    fileSystem: FileSystem,
    segmentBytes: number,
    segments: readonly Segment[],
  ) {
    this.directory = directory;
    this.fileSystem = fileSystem;
    this.#segmentBytes = segmentBytes;
    this.#segments = [...segments];
    this.#bytes = segments.reduce((sum, segment) => sum + segment.bytes, 0);
  }

  get bytes(): number {
    return this.#bytes;
  }

  get first(): Segment | undefined {
    return this.#segments[0];
  }

  /** The one after; null = the first. */
  after(segment: Segment | null): Segment | undefined {
    return this.#segments[segment === null ? 0 : this.#segments.indexOf(segment) + 1];
  }

  /** One write, one fsync. @throws the system's error: `abandonActive` before anything else */
  async write(frames: Buffer, firstSequence: number, count: number, nowMs: number): Promise<void> {
    const { file, segment } = await this.#openActive(firstSequence, nowMs);
    await writeAll(file, frames, segment.bytes);
    await file.sync();
    segment.bytes += frames.length;
    segment.lastSequence = firstSequence + count - 1;
    segment.firstWrittenAtMs ??= nowMs;
    this.#bytes += frames.length;
    if (segment.bytes >= this.#segmentBytes) await this.closeActive();
  }

  /** Bytes of a segment from an offset to its durable end. */
  async read(segment: Segment, offset: number): Promise<Buffer> {
    const file = await this.fileSystem.open(this.#pathOf(segment));
    try {
      return await file.read(segment.bytes - offset, offset);
    } finally {
      await file.close();
    }
  }

  /** Segments without a later record; the active one too, for personal data must not linger. */
  async removeUpTo(sequence: number): Promise<void> {
    for (;;) {
      const [segment] = this.#segments;
      if (segment === undefined || segment.lastSequence > sequence) return;
      if (this.#segments.length === 1) await this.closeActive();
      await this.fileSystem.remove(this.#pathOf(segment));
      this.#segments.shift();
      this.#bytes -= segment.bytes;
    }
  }

  async closeActive(): Promise<void> {
    const file = this.#active;
    this.#active = null;
    // Its data is durable: a failing close loses nothing.
    await file?.close().catch(() => {});
  }

  /** After a failed write: cuts the segment back to its durable bytes, by a new descriptor. */
  async abandonActive(): Promise<void> {
    const segment = this.#segments.at(-1);
    await this.closeActive();
    if (segment === undefined) return;
    if (segment.lastSequence < segment.firstSequence) {
      await this.fileSystem.remove(this.#pathOf(segment));
      await this.fileSystem.syncDirectory(this.directory);
      this.#segments.pop();
      this.#bytes -= segment.bytes;
      return;
    }
    const file = await this.fileSystem.open(this.#pathOf(segment));
    try {
      await file.truncate(segment.bytes);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async #openActive(
    firstSequence: number,
    nowMs: number,
  ): Promise<{ file: JournalFile; segment: Segment }> {
    const current = this.#segments.at(-1);
    if (this.#active !== null && current !== undefined) {
      return { file: this.#active, segment: current };
    }
    const segment: Segment = {
      name: segmentName(firstSequence),
      firstSequence,
      lastSequence: firstSequence - 1,
      bytes: 0,
      firstWrittenAtMs: null,
      missingRecords: 0,
    };
    const file = await this.fileSystem.create(this.#pathOf(segment));
    this.#active = file;
    this.#segments.push(segment);
    const header = encodeSegmentHeader(firstSequence, nowMs);
    await writeAll(file, header, 0);
    await file.sync();
    await this.fileSystem.syncDirectory(this.directory);
    segment.bytes = header.length;
    this.#bytes += header.length;
    return { file, segment };
  }

  #pathOf(segment: Segment): string {
    return `${this.directory}/${segment.name}`;
  }
}
