import { LedgerError } from '../errors.js';
import { nodeFileSystem } from './fileSystem.js';
import {
  encodeFrame,
  encodeSegmentHeader,
  HEADER_BYTES,
  type JournalRecord,
  MAX_PAYLOAD_BYTES,
} from './frame.js';
import { ReadAhead } from './readAhead.js';
import { SegmentStore } from './segmentStore.js';
import { type OpenReport, readPosition, recoverSegments, writePosition } from './segments.js';
import type { JournalOptions, JournalStatus } from './types.js';

interface Waiting {
  kind: number;
  payload: Buffer;
  resolve: (sequence: number) => void;
  reject: (error: Error) => void;
}

const DEFAULT_MAX_BYTES = 256 * 1024 * 1024;
const DEFAULT_SEGMENT_BYTES = 8 * 1024 * 1024;
/** Of one write and its fsync. */
const MAX_GROUP_BYTES = 4 * 1024 * 1024;
const SEGMENT_HEADER_BYTES = encodeSegmentHeader(1, 0).length;

/**
 * A local, append-only log of records that survive SIGKILL and a power cut (I9): `append` resolves
 * after the fsync. Records are read back in order, and leave when they are acknowledged.
 *
 *   append --> waiting --group write--> fsync --> durable --readNext--> drained --acknowledge--> gone
 *                                        |
 *                                        +-- fails: the group is refused, the journal takes nothing
 *                                            more until `recover` has cut the file back
 *
 * A segment is never appended to by a later process: whatever a crash left at its end stays clear
 * of new records. Group commit: one fsync for all that came while the last one was under way.
 */
export class Journal {
  readonly openReport: OpenReport;
  readonly #maxBytes: number;
  readonly #now: () => number;
  readonly #isOwner: () => boolean;
  readonly #onSync: (records: number, durationMs: number) => void;
  readonly #store: SegmentStore;
  readonly #reader: ReadAhead;
  #nextSequence: number;
  #acknowledged: number;
  #depth: number;
  readonly #waiting: Waiting[] = [];
  /** Accepted, and not on disk yet. */
  #acceptedBytes = 0;
  #isFlushing = false;
  /** Work on files, one at a time. */
  #chain: Promise<unknown> = Promise.resolve();
  #failure: Error | null = null;
  #isClosed = false;

  private constructor(
    options: JournalOptions,
    store: SegmentStore,
    found: { report: OpenReport; lastSequence: number; acknowledged: number },
  ) {
    this.#maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
    this.#now = options.clock ?? Date.now;
    this.#isOwner = options.isOwner ?? (() => true);
    this.#onSync = options.onSync ?? (() => {});
    this.#store = store;
    this.#reader = new ReadAhead(store, found.acknowledged, (report) => {
      this.#depth -= report.missingRecords;
      options.onDamage?.(report);
    });
    this.#nextSequence = found.lastSequence + 1;
    this.#acknowledged = found.acknowledged;
    this.#depth = found.report.records;
    this.openReport = found.report;
  }

  /** Opens what a previous process left, torn or whole. @throws the system's error */
  static async open(options: JournalOptions): Promise<Journal> {
    const { directory, fileSystem = nodeFileSystem } = options;
    await fileSystem.makeDirectory(directory);
    const acknowledged = await readPosition(fileSystem, directory);
    const found = await recoverSegments(fileSystem, directory, acknowledged);
    const segmentBytes = options.segmentBytes ?? DEFAULT_SEGMENT_BYTES;
    const store = new SegmentStore(directory, fileSystem, segmentBytes, found.segments);
    return new Journal(options, store, { ...found, acknowledged });
  }

  /**
   * Durable when it resolves. `headroomBytes`: refused unless as much room would be left.
   * @returns the record's sequence number
   * @throws LedgerError `unavailable`: full, failed or closed; `invalid_event`: too large
   */
  append(kind: number, payload: Buffer, headroomBytes?: number): Promise<number> {
    const refusal = this.#refusalOf(payload, headroomBytes);
    if (refusal !== null) return Promise.reject(refusal);
    this.#acceptedBytes += HEADER_BYTES + payload.length;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ kind, payload, resolve, reject });
      if (!this.#isFlushing) this.#scheduleFlush();
    });
  }

  /** The oldest records that are not acknowledged, in order; the same again until they are. */
  readNext(maxRecords: number): Promise<JournalRecord[]> {
    return this.#exclusively(async () => {
      this.#checkOpen();
      const records = await this.#reader.peek(maxRecords);
      // What is left was damaged: reported, and no reason to keep the files.
      if (records.length === 0) await this.#moveTo(this.#nextSequence - 1);
      return records;
    });
  }

  /** Records up to this one are safe elsewhere. Noted durably before files are removed. */
  acknowledge(sequence: number): Promise<void> {
    return this.#exclusively(async () => {
      this.#checkOpen();
      const drained = this.#reader.upTo(sequence);
      const last = drained.at(-1);
      if (last === undefined) return;
      await this.#moveTo(last.sequence);
      this.#reader.drop(drained.length);
      this.#depth -= drained.length;
    });
  }

  /** `headroomBytes`: as for `append`. */
  status(headroomBytes = 0): JournalStatus {
    const { bytes, first } = this.#store;
    const oldest = this.#reader.oldest?.writtenAtMs ?? first?.firstWrittenAtMs ?? null;
    return {
      depthRecords: this.#depth,
      bytes,
      oldestAgeMs: this.#depth === 0 || oldest === null ? 0 : Math.max(0, this.#now() - oldest),
      full: this.#isFull(headroomBytes),
      failure: this.#failure?.message ?? null,
    };
  }

  /**
   * After a failed write: cuts the segment back to what is known to be durable, and goes on in a
   * new one. The descriptor whose fsync failed is never asked again: the kernel may have dropped
   * the pages and would say that all is well.
   * @throws the system's error; the journal stays failed
   */
  recover(): Promise<void> {
    return this.#exclusively(async () => {
      if (this.#failure === null || this.#isClosed) return;
      if (!this.#isOwner()) throw this.#failure;
      await this.#store.abandonActive();
      this.#failure = null;
    });
  }

  /** Writes what is waiting, then takes nothing more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    while (this.#isFlushing) await this.#chain;
    await this.#exclusively(() => this.#store.closeActive());
  }

  #refusalOf(payload: Buffer, headroomBytes: number | undefined): LedgerError | null {
    if (this.#isClosed) return new LedgerError('unavailable', 'the journal is closed');
    if (this.#failure !== null) return failed(this.#failure);
    if (payload.length > MAX_PAYLOAD_BYTES) {
      return new LedgerError('invalid_event', 'the event is too large for the journal', {
        details: { bytes: payload.length, max_bytes: MAX_PAYLOAD_BYTES },
      });
    }
    const neededBytes = payload.length + (headroomBytes ?? 0);
    if (headroomBytes !== undefined && this.#isFull(neededBytes)) {
      return new LedgerError('unavailable', 'the journal is full and the database is away', {
        details: { bytes: this.#store.bytes, max_bytes: this.#maxBytes },
      });
    }
    return null;
  }

  /** The directory may be another process's by now. */
  #checkOpen(): void {
    if (this.#isClosed || !this.#isOwner()) {
      throw new LedgerError('unavailable', 'the journal is closed, or taken over');
    }
  }

  #isFull(neededBytes: number): boolean {
    const framing = 2 * HEADER_BYTES + SEGMENT_HEADER_BYTES;
    return this.#store.bytes + this.#acceptedBytes + neededBytes + framing > this.#maxBytes;
  }

  /** In turns with reading and acknowledging, so that neither starves. */
  #scheduleFlush(): void {
    this.#isFlushing = true;
    void this.#exclusively(async () => {
      // Calls made together travel together.
      await new Promise((resolve) => setImmediate(resolve));
      await this.#flushGroup();
      if (this.#waiting.length > 0) this.#scheduleFlush();
      else this.#isFlushing = false;
    });
  }

  async #flushGroup(): Promise<void> {
    const group = this.#takeGroup();
    const startedAt = performance.now();
    try {
      if (this.#failure !== null) throw this.#failure;
      const lastSequence = await this.#write(group);
      this.#onSync(group.length, performance.now() - startedAt);
      const firstSequence = lastSequence - group.length + 1;
      group.forEach((waiting, index) => {
        waiting.resolve(firstSequence + index);
      });
    } catch (error) {
      const isFirst = this.#failure === null;
      this.#failure = error as Error;
      for (const waiting of group) waiting.reject(failed(this.#failure));
      // Best effort: what was refused shall not come back. `recover` insists on it.
      if (isFirst && this.#isOwner()) await this.#store.abandonActive().catch(() => {});
    }
    this.#acceptedBytes -= bytesOf(group);
  }

  #takeGroup(): Waiting[] {
    let bytes = 0;
    const tooMany = this.#waiting.findIndex((waiting, index) => {
      bytes += bytesOf([waiting]);
      return index > 0 && bytes > MAX_GROUP_BYTES;
    });
    return this.#waiting.splice(0, tooMany === -1 ? this.#waiting.length : tooMany);
  }

  /** @returns the sequence number of the last record */
  async #write(group: readonly Waiting[]): Promise<number> {
    if (!this.#isOwner()) throw new Error('another process has taken over the journal');
    const nowMs = this.#now();
    const firstSequence = this.#nextSequence;
    const frames = group.map(({ kind, payload }, index) =>
      encodeFrame({ sequence: firstSequence + index, writtenAtMs: nowMs, kind, payload }),
    );
    await this.#store.write(Buffer.concat(frames), firstSequence, group.length, nowMs);
    this.#depth += group.length;
    this.#nextSequence = firstSequence + group.length;
    return this.#nextSequence - 1;
  }

  async #moveTo(sequence: number): Promise<void> {
    if (sequence <= this.#acknowledged) return;
    await writePosition(this.#store.fileSystem, this.#store.directory, sequence);
    this.#acknowledged = sequence;
    await this.#store.removeUpTo(sequence);
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#chain.then(work);
    this.#chain = result.catch(() => {});
    return result;
  }
}

function failed(cause: Error): LedgerError {
  return new LedgerError('unavailable', `the journal cannot be written: ${cause.message}`, {
    cause,
  });
}

function bytesOf(group: readonly Waiting[]): number {
  return group.reduce((sum, { payload }) => sum + HEADER_BYTES + payload.length, 0);
}
