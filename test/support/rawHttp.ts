import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** How a connection ended, seen from the client. */
export interface RawAnswer {
  /** Everything received, head and body. */
  bytes: Buffer;
  head: string;
  body: Buffer;
  /** A clean end of the message: by length, or by the last chunk. */
  isComplete: boolean;
}

/** A POST as bytes, over a socket of its own. */
export function postBytes(
  path: string,
  headers: Readonly<Record<string, string>>,
  body: string | Buffer,
): Buffer {
  const lines = Object.entries({
    host: 'gateway',
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    ...headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([
    Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1'),
    Buffer.from(body),
  ]);
}

/** Any request as bytes: the target goes out as it is written here. */
export function requestBytes(
  method: string,
  target: string,
  headers: Readonly<Record<string, string>>,
): Buffer {
  const lines = Object.entries({ host: 'gateway', connection: 'close', ...headers });
  const text = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return Buffer.from(`${method} ${target} HTTP/1.1\r\n${text}\r\n`, 'latin1');
}

export async function openSocket(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Sends the bytes with `connection: close` in them, and reads to the end of the connection. */
export async function exchangeBytes(url: string, request: Buffer): Promise<RawAnswer> {
  const socket = await openSocket(url);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.write(request);
  await once(socket, 'close');
  return readAnswer(Buffer.concat(chunks));
}

export function readAnswer(bytes: Buffer): RawAnswer {
  const at = bytes.indexOf('\r\n\r\n');
  const head = bytes.subarray(0, at).toString('latin1');
  const rest = bytes.subarray(at + 4);
  if (!/^transfer-encoding: *chunked/im.test(head)) {
    const length = /^content-length: *(\d+)/im.exec(head)?.[1];
    return { bytes, head, body: rest, isComplete: length === String(rest.length) };
  }
  return { bytes, head, ...dechunk(rest) };
}

function dechunk(rest: Buffer): { body: Buffer; isComplete: boolean } {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = rest.indexOf('\r\n', at);
    if (lineEnd < 0) return { body: Buffer.concat(parts), isComplete: false };
    const size = Number.parseInt(rest.subarray(at, lineEnd).toString(), 16);
    if (size === 0) return { body: Buffer.concat(parts), isComplete: true };
    parts.push(rest.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
}
