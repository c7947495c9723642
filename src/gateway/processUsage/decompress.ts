import zlib from 'node:zlib';

/** Of one answer as it came, and as it is read; what is larger is not read. */
const MAX_COMPRESSED_BYTES = 1 << 24;
const MAX_PLAIN_BYTES = 1 << 26;
const MAX_CODINGS = 4;

type Decode = (bytes: Uint8Array) => Uint8Array;

const bounded = { maxOutputLength: MAX_PLAIN_BYTES };
/** What was cut is read as far as it goes. */
const cutAnywhere = { ...bounded, finishFlush: zlib.constants.Z_SYNC_FLUSH };

const DECODERS: Readonly<Record<string, Decode>> = {
  identity: (bytes) => bytes,
  gzip: (bytes) => zlib.gunzipSync(bytes, cutAnywhere),
  'x-gzip': (bytes) => zlib.gunzipSync(bytes, cutAnywhere),
  deflate: inflate,
  br: (bytes) =>
    zlib.brotliDecompressSync(bytes, {
      ...bounded,
      finishFlush: zlib.constants.BROTLI_OPERATION_FLUSH,
    }),
  zstd: unzstd,
};

/** How the bytes of compressed answers begin, where the headers do not tell. */
const MAGIC: readonly (readonly [coding: string, bytes: readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b, 0x08]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
];

/** Until so many have come nobody knows whether they are compressed. */
export const MAGIC_BYTES = 4;

/** Whether more bytes may show that these are compressed. */
export function mayBeCompressed(start: Uint8Array): boolean {
  return MAGIC.some(([, magic]) => start.every((byte, at) => byte === magic[at]));
}

/** The codings of an answer in the order in which they were applied; none for plain bytes. */
export function codingsOf(contentEncoding: string | null, start: Uint8Array): readonly string[] {
  const named = (contentEncoding ?? '')
    .toLowerCase()
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '' && each !== 'identity');
  if (named.length > 0) return named;
  const found = MAGIC.find(([, magic]) => magic.every((byte, at) => start[at] === byte));
  return found === undefined ? [] : [found[0]];
}

/** Collects a compressed answer, to be read once it has ended. */
export class CompressedBytes {
  readonly #codings: readonly string[];
  #chunks: Uint8Array[] = [];
  /** As it came; also what is too much to be kept. */
  length = 0;

  constructor(codings: readonly string[]) {
    this.#codings = codings;
  }

  add(bytes: Uint8Array): void {
    this.length += bytes.length;
    if (this.length <= MAX_COMPRESSED_BYTES) this.#chunks.push(Buffer.from(bytes));
    else this.#chunks = [];
  }

  /** Null for what cannot be read. What is plain in spite of its header is taken as it is. */
  take(): Uint8Array | null {
    const whole = Buffer.concat(this.#chunks);
    this.#chunks = [];
    if (this.length > MAX_COMPRESSED_BYTES || this.#codings.length > MAX_CODINGS) return null;
    let bytes: Uint8Array = whole;
    try {
      for (const coding of [...this.#codings].reverse()) {
        const decode = Object.hasOwn(DECODERS, coding) ? DECODERS[coding] : undefined;
        if (decode === undefined) throw new Error(`${coding} is not known`);
        bytes = decode(bytes);
      }
    } catch {
      return PLAIN_START.test(whole.toString('latin1', 0, 64)) ? whole : null;
    }
    return bytes;
  }
}

/** Of JSON or server-sent events. */
const PLAIN_START = /^\s*([{[]|(data|event|id|retry)?:)/;

/** With the header that the standard asks for, or without, as some send it. */
function inflate(bytes: Uint8Array): Uint8Array {
  try {
    return zlib.inflateSync(bytes, cutAnywhere);
  } catch {
    return zlib.inflateRawSync(bytes, cutAnywhere);
  }
}

/** Node 22.15 and later know it. */
function unzstd(bytes: Uint8Array): Uint8Array {
  const decode = (zlib as { zstdDecompressSync?: (bytes: Uint8Array, options: object) => Buffer })
    .zstdDecompressSync;
  if (decode === undefined) throw new Error('this version of Node has no zstd');
  return decode(bytes, bounded);
}
