import { decodeFrame, frameBytes, type JournalRecord, SEGMENT_KIND } from './frame.js';

/** Bytes that are no record. */
export interface Damage {
  offset: number;
  bytes: Buffer;
  /** Nothing valid follows in the segment: after a crash, a write that was never finished. */
  isTail: boolean;
}

export interface Scan {
  records: JournalRecord[];
  damages: Damage[];
  /** Offset after the last valid record. */
  validBytes: number;
}

/**
 * Reads every undamaged record. After damage it goes on at the next offset where a record with
 * a right checksum and a higher sequence number begins: a bit flip costs the record it hit, not
 * the rest of its segment. Payloads cannot imitate a record: they are JSON, and a record's length
 * holds a zero byte.
 */
export function scanSegment(bytes: Buffer, afterSequence: number): Scan {
  const scan: Scan = { records: [], damages: [], validBytes: 0 };
  let last = afterSequence;
  let offset = 0;
  while (offset < bytes.length) {
    const record = decodeNext(bytes, offset, last);
    if (record === null) {
      const next = findNext(bytes, offset + 1, last);
      scan.damages.push({
        offset,
        bytes: bytes.subarray(offset, next ?? bytes.length),
        isTail: next === null,
      });
      if (next === null) break;
      offset = next;
      continue;
    }
    offset += frameBytes(record);
    scan.validBytes = offset;
    if (record.kind === SEGMENT_KIND) {
      last = Math.max(last, record.sequence - 1);
      continue;
    }
    last = record.sequence;
    scan.records.push(record);
  }
  return scan;
}

function decodeNext(bytes: Buffer, offset: number, last: number): JournalRecord | null {
  const record = decodeFrame(bytes, offset);
  return record !== null && record.sequence > last ? record : null;
}

function findNext(bytes: Buffer, from: number, last: number): number | null {
  for (let offset = from; offset < bytes.length; offset++) {
    if (decodeNext(bytes, offset, last) !== null) return offset;
  }
  return null;
}
