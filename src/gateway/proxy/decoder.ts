import { Transform } from 'node:stream';
import * as zlib from 'node:zlib';

/** Of one answer; beyond it, what comes is a bomb or a film, and is not read. */
const MAX_DECODED_BYTES = 256 << 20;

/** What was cut off is decoded as far as it came. */
const GZIP = { finishFlush: zlib.constants.Z_SYNC_FLUSH };
const BROTLI = { finishFlush: zlib.constants.BROTLI_OPERATION_FLUSH };

/** Newer Node.js has it. */
const { createZstdDecompress } = zlib as { createZstdDecompress?: () => Transform };

const DECODERS: Readonly<Record<string, (() => Transform) | undefined>> = {
  gzip: () => zlib.createGunzip(GZIP),
  'x-gzip': () => zlib.createGunzip(GZIP),
  deflate: createEitherInflate,
  br: () => zlib.createBrotliDecompress(BROTLI),
  zstd: createZstdDecompress,
};

/** RFC 9110 means zlib's format; some servers send it without its header, and clients take both. */
function createEitherInflate(): Transform {
  let inflate: Transform | undefined;
  const either = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (inflate === undefined) {
        const hasHeader = ((chunk[0] ?? 0) & 0x0f) === 8;
        inflate = hasHeader ? zlib.createInflate(GZIP) : zlib.createInflateRaw(GZIP);
        inflate.on('data', (piece: Buffer) => either.push(piece));
        inflate.on('error', (error) => either.destroy(error));
      }
      inflate.write(chunk, () => done());
    },
    flush(done) {
      if (inflate === undefined) return done();
      inflate.once('end', () => done());
      inflate.end();
    },
  });
  return either;
}

/** The codings of a `content-encoding`, outermost first; empty = none. */
export function readCodings(contentEncoding: string | undefined): string[] {
  const codings = (contentEncoding ?? '').split(',').map((each) => each.trim().toLowerCase());
  return codings.filter((each) => each !== '' && each !== 'identity').reverse();
}

/** Whether this Node.js knows all of them. */
export function canDecode(codings: readonly string[]): boolean {
  return codings.every((coding) => DECODERS[coding] !== undefined);
}

/**
 * Decodes a compressed answer piece by piece. Never throws: what cannot be decoded gives nothing
 * more.
 */
export class Decoder {
  readonly #chain: readonly Transform[];
  readonly #ended: Promise<void>;
  #decodedBytes = 0;
  #isBroken = false;

  constructor(codings: readonly string[], onData: (chunk: Buffer) => void) {
    const makers = canDecode(codings) ? codings.map((coding) => DECODERS[coding]) : [];
    this.#chain = makers.map((make) => (make as () => Transform)());
    const last = this.#chain.at(-1);
    for (const [at, stream] of this.#chain.entries()) {
      stream.on('error', () => this.#break());
      const next = this.#chain[at + 1];
      if (next !== undefined) stream.pipe(next);
    }
    last?.on('data', (chunk: Buffer) => {
      this.#decodedBytes += chunk.length;
      if (this.#decodedBytes > MAX_DECODED_BYTES) this.#break();
      else onData(chunk);
    });
    this.#ended = new Promise((resolve) => {
      if (last === undefined) resolve();
      else last.once('close', resolve);
    });
  }

  /** What was given is not all of it. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  write(chunk: Buffer): void {
    const [first] = this.#chain;
    if (first?.writable) first.write(chunk);
  }

  /** Resolves when all that could be decoded was given. */
  end(): Promise<void> {
    const [first] = this.#chain;
    if (first?.writable) first.end();
    return this.#ended;
  }

  #break(): void {
    this.#isBroken = true;
    this.#chain.at(-1)?.destroy();
  }
}
