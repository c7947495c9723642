import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';

/** As a path: standard input. */
export const STDIN = '-';
const CHUNK_BYTES = 256 * 1024;
const GZIP_MAGIC = [0x1f, 0x8b];

/** The compressed input is damaged or cut off; what was read before is good. */
export class DamagedInput extends Error {}

/**
 * The bytes of a file, or of standard input. What begins as gzip does is unpacked, whatever its name.
 * @param onBytes is told of bytes as they are stored, so compressed ones
 * @throws DamagedInput after the last byte that could be unpacked
 */
export async function* openInput(
  path: string,
  onBytes: (bytes: number) => void = () => {},
  stdin: AsyncIterable<Buffer> = process.stdin,
): AsyncGenerator<Buffer> {
  const stored = path === STDIN ? stdin : createReadStream(path, { highWaterMark: CHUNK_BYTES });
  const source = countBytes(stored, onBytes)[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  while (head.length < GZIP_MAGIC.length) {
    const next = await source.next();
    if (next.done) break;
    head = Buffer.concat([head, next.value]);
  }
  const chunks = prepend(head, source);
  if (GZIP_MAGIC.every((byte, index) => head[index] === byte)) yield* unpack(chunks);
  else yield* chunks;
}

async function* unpack(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  // Errors of either end come out of the iteration.
  const unpacked = pipeline(Readable.from(chunks), createGunzip(), () => {});
  try {
    for await (const chunk of unpacked) yield chunk as Buffer;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (!code?.startsWith('Z_')) throw error;
    throw new DamagedInput(`the compressed input is damaged or cut off here (${message})`);
  }
}

async function* prepend(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head;
  yield* { [Symbol.asyncIterator]: () => rest };
}

async function* countBytes(
  chunks: AsyncIterable<Buffer | string>,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    yield bytes;
    onBytes(bytes.length);
  }
}
