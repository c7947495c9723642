import type { Line, LineCleaning } from './types.js';

/** Bytes; a longer line is rejected without being kept in memory. */
export const MAX_LINE_BYTES = 1024 * 1024;

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const BYTE_ORDER_MARK = '\uFEFF';
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The non-blank lines of a file, numbered from 1. Takes LF, CRLF and CR, a byte order mark, a last
 * line without an end. NUL bytes are removed and counted: they carry nothing, and PostgreSQL
 * refuses them. A line that is not UTF-8 or too long is a problem of that line alone.
 */
export async function* readLines(
  chunks: AsyncIterable<Buffer>,
  cleaning: LineCleaning,
  maxLineBytes = MAX_LINE_BYTES,
): AsyncGenerator<Line> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  let number = 0;
  let before = '';

  const keep = (piece: Buffer) => {
    bytes += piece.length;
    if (bytes <= maxLineBytes) pieces.push(piece);
    else pieces = [];
  };
  const passOver = (text: string) => {
    if (before.length <= maxLineBytes) before += text;
  };
  const finish = (): Line | null => {
    const tooLong = bytes > maxLineBytes;
    const content = pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
    pieces = [];
    bytes = 0;
    number += 1;
    const text = tooLong ? null : decode(content ?? Buffer.alloc(0), cleaning);
    if (text?.trim() === '') {
      passOver(text);
      return null;
    }
    const between = before;
    before = '';
    if (tooLong) return { line: number, problem: `is longer than ${maxLineBytes} bytes` };
    if (text === null) return { line: number, problem: 'is not UTF-8 text' };
    const mark = text.startsWith(BYTE_ORDER_MARK) ? BYTE_ORDER_MARK : '';
    return { line: number, before: between + mark, text: text.slice(mark.length) };
  };

  let afterReturn = false;
  for await (const chunk of chunks) {
    let start = 0;
    while (start < chunk.length) {
      // The second half of CRLF, maybe in another chunk than the first.
      if (afterReturn && chunk[start] === LINE_FEED) {
        start += 1;
        passOver('\n');
      }
      afterReturn = false;
      const end = findLineEnd(chunk, start);
      keep(chunk.subarray(start, end === -1 ? chunk.length : end));
      if (end === -1) break;
      afterReturn = chunk[end] === CARRIAGE_RETURN;
      start = end + 1;
      const line = finish();
      if (line !== null) yield line;
      passOver(afterReturn ? '\r' : '\n');
    }
  }
  if (bytes > 0) {
    const line = finish();
    if (line !== null) yield line;
  }
}

/** Place of the next CR or LF; -1 when there is none. */
function findLineEnd(chunk: Buffer, from: number): number {
  const feed = chunk.indexOf(LINE_FEED, from);
  const before = feed === -1 ? chunk : chunk.subarray(0, feed);
  const carriageReturn = before.indexOf(CARRIAGE_RETURN, from);
  return carriageReturn === -1 ? feed : carriageReturn;
}

/** Null: it is not UTF-8. */
function decode(content: Buffer, cleaning: LineCleaning): string | null {
  let text: string;
  try {
    text = UTF8.decode(content);
  } catch {
    return null;
  }
  const clean = text.replaceAll('\0', '');
  cleaning.nulBytesRemoved += text.length - clean.length;
  return clean;
}
