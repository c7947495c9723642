/** PostgreSQL's protocol, version 3, as far as a pooler must know it. */
const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;
const CANCEL_REQUEST = 80_877_102;

/** Cuts a byte stream into messages. A client's first one has no type: `startup`. */
export class MessageSplitter {
  #rest: Buffer = Buffer.alloc(0);

  /** The next message, whole, or null until more bytes come. */
  next(kind: 'startup' | 'typed'): Buffer | null {
    const header = kind === 'startup' ? 0 : 1;
    if (this.#rest.length < header + 4) return null;
    const length = header + this.#rest.readInt32BE(header);
    if (this.#rest.length < length) return null;
    const message = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return message;
  }

  push(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
  }
}

export type Startup =
  | { kind: 'encryption' }
  | { kind: 'cancel' }
  | { kind: 'session'; parameters: Map<string, string> };

export function readStartup(message: Buffer): Startup {
  const code = message.readInt32BE(4);
  if (code === SSL_REQUEST || code === GSS_REQUEST) return { kind: 'encryption' };
  if (code === CANCEL_REQUEST) return { kind: 'cancel' };
  const words = message.subarray(8).toString().split('\0');
  const parameters = new Map<string, string>();
  for (let at = 0; at + 1 < words.length && words[at] !== ''; at += 2) {
    parameters.set(words[at] as string, words[at + 1] as string);
  }
  return { kind: 'session', parameters };
}

export function typeOf(message: Buffer): string {
  return String.fromCharCode(message[0] as number);
}

/** Of a ReadyForQuery: no transaction is open. */
export function isIdle(message: Buffer): boolean {
  return message[5] === 'I'.charCodeAt(0);
}

export const AUTHENTICATION_OK = typed('R', Buffer.alloc(4));
export const READY = typed('Z', Buffer.from('I'));

export function parameterStatus(name: string, value: string): Buffer {
  return typed('S', Buffer.from(`${name}\0${value}\0`));
}

export function simpleQuery(text: string): Buffer {
  return typed('Q', Buffer.from(`${text}\0`));
}

export function fatalError(message: string): Buffer {
  return typed('E', Buffer.from(`SFATAL\0VFATAL\0C08P01\0M${message}\0\0`));
}

function typed(type: string, body: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header.write(type);
  header.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([header, body]);
}
