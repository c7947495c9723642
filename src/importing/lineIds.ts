import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** SHA-256 of a file's content, hex; read as a stream. */
export async function digestFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}

/** SHA-256 of one line's place: file digest and line number. The source of its id and user. */
export function hashLine(fileDigest: string, line: number): Buffer {
  return createHash('sha256').update(`${fileDigest}:${line}`).digest();
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

/** The id of an event whose line names none: the same file gives the same ids (I3). */
export function lineId(fileDigest: string, line: number): string {
  return uuidFromHash(hashLine(fileDigest, line));
}
