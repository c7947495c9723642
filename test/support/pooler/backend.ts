import type { Duplex } from 'node:stream';
import pg from 'pg';
import { isIdle, MessageSplitter, simpleQuery, typeOf } from './wire.js';

/** Who has the backend. */
export interface Holder {
  /** A message for the client. */
  receive(message: Buffer): void;
  /** The transaction has ended: somebody else may have it. */
  release(): void;
  lose(): void;
}

/** A connection to the server, whose login is `pg`'s work and whose bytes are ours after it. */
export class Backend {
  /** As the server told them at login. */
  readonly parameters = new Map<string, string>();
  readonly #socket: Duplex;
  readonly #splitter = new MessageSplitter();
  #holder: Holder | null = null;
  #applicationName = '';
  /** ReadyForQuery that are to come: those of our own first. */
  #ownAnswers = 0;
  #answers = 0;
  /** Messages of the extended protocol have come, and no Sync. */
  #isAmidBatch = false;

  private constructor(socket: Duplex) {
    this.#socket = socket;
  }

  static async open(url: string): Promise<Backend> {
    const client = new pg.Client({ connectionString: url });
    const statuses: { parameterName: string; parameterValue: string }[] = [];
    client.connection.on('parameterStatus', (status) => statuses.push(status));
    await client.connect();
    const { stream } = client.connection;
    for (const event of ['data', 'error', 'close', 'end']) stream.removeAllListeners(event);
    const backend = new Backend(stream);
    for (const { parameterName, parameterValue } of statuses) {
      backend.parameters.set(parameterName, parameterValue);
    }
    stream.on('data', (bytes) => backend.#read(bytes));
    stream.on('error', () => stream.destroy());
    return backend;
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  onClose(handle: () => void): void {
    this.#socket.once('close', () => {
      handle();
      this.#holder?.lose();
    });
  }

  /** From now on the holder's; under its name, which is what a pooler keeps for its clients. */
  lend(holder: Holder, applicationName: string): void {
    this.#holder = holder;
    if (applicationName === this.#applicationName) return;
    this.#applicationName = applicationName;
    this.#ownAnswers++;
    const quoted = applicationName.replaceAll("'", "''");
    this.#socket.write(simpleQuery(`set application_name to '${quoted}'`));
  }

  send(message: Buffer): void {
    const type = typeOf(message);
    if ('QSF'.includes(type)) this.#answers++;
    if ('PBDECH'.includes(type)) this.#isAmidBatch = true;
    if ('QS'.includes(type)) this.#isAmidBatch = false;
    this.#socket.write(message);
  }

  destroy(): void {
    this.#holder = null;
    this.#socket.destroy();
  }

  #read(bytes: Buffer): void {
    this.#splitter.push(bytes);
    for (;;) {
      const message = this.#splitter.next('typed');
      if (message === null) return;
      const isReady = typeOf(message) === 'Z';
      if (this.#ownAnswers > 0) {
        if (isReady) this.#ownAnswers--;
        continue;
      }
      const holder = this.#holder;
      holder?.receive(message);
      if (!isReady) continue;
      this.#answers--;
      if (this.#answers > 0 || this.#isAmidBatch || !isIdle(message)) continue;
      this.#holder = null;
      holder?.release();
    }
  }
}
