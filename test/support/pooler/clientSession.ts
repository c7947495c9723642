import type { Socket } from 'node:net';
import type { Backend, Holder } from './backend.js';
import {
  AUTHENTICATION_OK,
  fatalError,
  MessageSplitter,
  parameterStatus,
  READY,
  readStartup,
  typeOf,
} from './wire.js';

/** What a pooler takes at the start of a session; it refuses whatever else would be lost. */
const KNOWN_PARAMETERS = [
  'user',
  'database',
  'application_name',
  'client_encoding',
  'datestyle',
  'timezone',
  'standard_conforming_strings',
];

/** Where a session borrows its backends. */
export interface Lender {
  acquire(): Promise<Backend>;
  release(backend: Backend): void;
}

/** One client's connection: greeted here, then passed on for a transaction at a time. */
export class ClientSession implements Holder {
  readonly #socket: Socket;
  readonly #ignoredParameters: readonly string[];
  readonly #lender: Lender;
  readonly #splitter = new MessageSplitter();
  #state: 'startup' | 'typed' = 'startup';
  #applicationName = '';
  #backend: Backend | null = null;

  constructor(socket: Socket, ignoredParameters: readonly string[], lender: Lender) {
    this.#socket = socket;
    this.#ignoredParameters = ignoredParameters;
    this.#lender = lender;
  }

  async read(bytes: Buffer): Promise<void> {
    this.#splitter.push(bytes);
    for (;;) {
      const message = this.#splitter.next(this.#state);
      if (message === null || this.#socket.destroyed) return;
      if (this.#state === 'startup') await this.#greet(message);
      else if (typeOf(message) === 'X') this.#socket.destroy();
      else (await this.#borrow())?.send(message);
    }
  }

  /** A transaction that is left open is nobody's: its connection goes with the client. */
  end(): void {
    this.#backend?.destroy();
    this.#backend = null;
  }

  receive(message: Buffer): void {
    this.#socket.write(message);
  }

  release(): void {
    const backend = this.#backend;
    this.#backend = null;
    if (backend !== null) this.#lender.release(backend);
  }

  lose(): void {
    this.#backend = null;
    this.#socket.end(fatalError('server conn crashed?'));
  }

  async #borrow(): Promise<Backend | null> {
    if (this.#backend !== null) return this.#backend;
    let backend = await this.#lender.acquire();
    while (!backend.isOpen) backend = await this.#lender.acquire();
    if (this.#socket.destroyed) {
      this.#lender.release(backend);
      return null;
    }
    this.#backend = backend;
    backend.lend(this, this.#applicationName);
    return backend;
  }

  async #greet(message: Buffer): Promise<void> {
    const startup = readStartup(message);
    if (startup.kind === 'encryption') return void this.#socket.write('N');
    if (startup.kind === 'cancel') return void this.#socket.destroy();
    for (const name of startup.parameters.keys()) {
      if (KNOWN_PARAMETERS.includes(name.toLowerCase()) || this.#ignoredParameters.includes(name))
        continue;
      this.#socket.end(fatalError(`unsupported startup parameter: ${name}`));
      return;
    }
    this.#state = 'typed';
    this.#applicationName = startup.parameters.get('application_name') ?? '';
    const backend = await this.#lender.acquire();
    const statuses = [...backend.parameters].map((each) => parameterStatus(...each));
    this.#lender.release(backend);
    this.#socket.write(Buffer.concat([AUTHENTICATION_OK, ...statuses, READY]));
  }
}
