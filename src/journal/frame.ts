import { crc32 } from 'node:zlib';

/**
 * A record on disk, little endian:
 *
 *   bytes  0-3   length of the payload
 *   bytes  4-7   crc32 of bytes 8 to the end of the payload
 *   bytes  8-15  sequence number; grows by 1 from record to record
 *   bytes 16-23  when it was written, ms since the epoch (double)
 *   byte  24     kind, the caller's
 *   bytes 25-    payload
 *
 * A segment begins with a header of the same shape: kind 255, payload `SEGMENT_MAGIC`, and the
 * sequence number of its first record.
 */
export interface JournalRecord {
  sequence: number;
  writtenAtMs: number;
  kind: number;
  payload: Buffer;
}

export const HEADER_BYTES = 25;
export const SEGMENT_KIND = 255;
export const SEGMENT_MAGIC = 'microdollar journal 1';
/** Larger ones are refused, so a damaged length is seen at once. */
export const MAX_PAYLOAD_BYTES = 1024 * 1024;

export function encodeFrame(record: JournalRecord): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + record.payload.length);
  frame.writeUInt32LE(record.payload.length, 0);
  frame.writeBigUInt64LE(BigInt(record.sequence), 8);
  frame.writeDoubleLE(record.writtenAtMs, 16);
  frame.writeUInt8(record.kind, 24);
  record.payload.copy(frame, HEADER_BYTES);
  frame.writeUInt32LE(crc32(frame.subarray(8)), 4);
  return frame;
}

export function encodeSegmentHeader(firstSequence: number, nowMs: number): Buffer {
  return encodeFrame({
    sequence: firstSequence,
    writtenAtMs: nowMs,
    kind: SEGMENT_KIND,
    payload: Buffer.from(SEGMENT_MAGIC),
  });
}

/** The record at an offset; null when there is no whole, undamaged one. */
export function decodeFrame(bytes: Buffer, offset: number): JournalRecord | null {
  if (offset + HEADER_BYTES > bytes.length) return null;
  const length = bytes.readUInt32LE(offset);
  const end = offset + HEADER_BYTES + length;
  if (length > MAX_PAYLOAD_BYTES || end > bytes.length) return null;
  if (crc32(bytes.subarray(offset + 8, end)) !== bytes.readUInt32LE(offset + 4)) return null;
  return {
    sequence: Number(bytes.readBigUInt64LE(offset + 8)),
    writtenAtMs: bytes.readDoubleLE(offset + 16),
    kind: bytes.readUInt8(offset + 24),
    payload: bytes.subarray(offset + HEADER_BYTES, end),
  };
}

export function frameBytes(record: JournalRecord): number {
  return HEADER_BYTES + record.payload.length;
}
