import type { JournalRecord } from './frame.js';
import { scanSegment } from './scan.js';
import type { SegmentStore } from './segmentStore.js';
import { type Segment, setAside } from './segments.js';

/** Records that were whole once and are not any more. */
export interface DamageReport {
  missingRecords: number;
  /** Copies of the bytes, paths in the journal's directory. */
  damagedFiles: string[];
}

/** Records that are read and not acknowledged, in order; a segment is read once, as it grows. */
export class ReadAhead {
  readonly #store: SegmentStore;
  readonly #onDamage: (report: DamageReport) => void;
  readonly #records: JournalRecord[] = [];
  /** What has been read. */
  #cursor: { segment: Segment; offset: number } | null = null;
  /** Sequence number of the last record that was read or acknowledged. */
  #last: number;

  constructor(store: SegmentStore, acknowledged: number, onDamage: (report: DamageReport) => void) {
    this.#store = store;
    this.#last = acknowledged;
    this.#onDamage = onDamage;
  }

  get oldest(): JournalRecord | undefined {
    return this.#records[0];
  }

  /** Fewer only when there are no more. */
  async peek(maxRecords: number): Promise<JournalRecord[]> {
    while (this.#records.length < maxRecords && (await this.#readOn()));
    return this.#records.slice(0, maxRecords);
  }

  /** Those up to a sequence number. */
  upTo(sequence: number): readonly JournalRecord[] {
    const count = this.#records.findIndex((record) => record.sequence > sequence);
    return this.#records.slice(0, count === -1 ? undefined : count);
  }

  drop(count: number): void {
    this.#records.splice(0, count);
  }

  async #readOn(): Promise<boolean> {
    const place = this.#nextPlace();
    if (place === null) return false;
    const { segment, offset } = place;
    const bytes = await this.#store.read(segment, offset);
    const before = Math.max(this.#last, segment.firstSequence - 1);
    const scan = scanSegment(bytes, segment.firstSequence - 1);
    const fresh = scan.records.filter((record) => record.sequence > this.#last);
    const damagedFiles: string[] = [];
    for (const damage of scan.damages) {
      const placed = { bytes: damage.bytes, offset: offset + damage.offset };
      const { fileSystem, directory } = this.#store;
      const copy = await setAside(fileSystem, directory, segment.name, placed);
      if (copy !== null) damagedFiles.push(copy);
    }
    this.#cursor = { segment, offset: segment.bytes };
    this.#last = Math.max(this.#last, segment.lastSequence);
    this.#records.push(...fresh);
    const missingRecords = segment.lastSequence - before - fresh.length - segment.missingRecords;
    segment.missingRecords = 0;
    if (missingRecords > 0) this.#onDamage({ missingRecords, damagedFiles });
    return true;
  }

  /** On in the same segment, if it has grown; else the next one. */
  #nextPlace(): { segment: Segment; offset: number } | null {
    const cursor = this.#cursor;
    if (cursor !== null && cursor.offset < cursor.segment.bytes) return cursor;
    // A segment that was removed is followed by the first one.
    const next = this.#store.after(cursor?.segment ?? null);
    return next === undefined || next.bytes === 0 ? null : { segment: next, offset: 0 };
  }
}
