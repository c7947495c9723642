import { randomFillSync } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { LedgerError } from './errors.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Whether it is a UUID in its usual text form (RFC 9562), of any version and either case. */
export function isUuid(value: unknown): value is string {
  return typeof value === 'string' && UUID.test(value);
}

const RANDOM_BYTES = new Uint8Array(4_096);
let taken = RANDOM_BYTES.length;
let lastMs = 0;
let sequence = 0;
/** A clock that was put right by more is a clock that was wrong: from then on ids are of the right time. */
const MAX_STEP_BACK_MS = 10_000;

/**
 * A UUID version 7 (RFC 9562): by the time at which it is made, and within a millisecond, or while the clock
 * is a little behind (section 6.2), by the order. Its random bytes are asked for by the hundred, for each
 * call of the system costs more than all the rest.
 */
export function newUuid(): string {
  if (taken === RANDOM_BYTES.length) {
    randomFillSync(RANDOM_BYTES);
    taken = 0;
  }
  const random = RANDOM_BYTES.subarray(taken, taken + 16);
  taken += 16;
  const nowMs = Date.now();
  if (nowMs > lastMs || nowMs < lastMs - MAX_STEP_BACK_MS) {
    lastMs = nowMs;
    // Room for as many more as a millisecond can have; bytes that the id itself has no place for.
    sequence = new DataView(random.buffer, random.byteOffset).getUint32(0) >>> 1;
  } else {
    sequence++;
  }
  return uuidv7({ random, msecs: lastMs, seq: sequence });
}

/** A UUID version 8 (RFC 9562) from the first 16 bytes of a hash. */
export function uuidFromHash(hash: Buffer): string {
  const bytes = Buffer.from(hash.subarray(0, 16));
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join('-');
}

/** In lower case. @throws LedgerError `invalid_request` naming the field */
export function readUuid(field: string, value: string): string {
  if (isUuid(value)) return value.toLowerCase();
  throw new LedgerError('invalid_request', `${field} must be a UUID`, { details: { field } });
}
