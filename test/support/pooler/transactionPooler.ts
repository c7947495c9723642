import { once } from 'node:events';
import net, { type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { urlThroughPooler } from '../socketUrl.js';
import { Backend } from './backend.js';
import { ClientSession } from './clientSession.js';

/** A pooler in transaction mode before a database. */
export interface Pooler {
  url: string;
  /** As by SIGKILL, and a new one on the same port. */
  crash(): Promise<void>;
  stop(): Promise<void>;
}

export interface PoolerOptions {
  /** Server connections; fewer than clients, so that they change hands all the time. */
  poolSize: number;
  /** Startup parameters that are dropped instead of refused, with commas between. */
  ignoredParameters?: string;
}

/**
 * A pooler for tests that behaves as pgbouncer does in transaction mode: a server connection is a
 * client's for one transaction, and what the session left on it (prepared statements, settings) the
 * next client finds. The suite of this one is run on pgbouncer as well, where that is installed.
 */
export async function startPooler(databaseUrl: string, options: PoolerOptions): Promise<Pooler> {
  const poolAt = async (port: number) => {
    const pool = new TransactionPool(databaseUrl, options);
    await pool.listen(port);
    return pool;
  };
  let pool = await poolAt(0);
  const { port } = pool;
  return {
    url: urlThroughPooler(databaseUrl, port),
    async crash() {
      await pool.kill();
      pool = await poolAt(port);
    },
    stop: () => pool.kill(),
  };
}

class TransactionPool {
  readonly #databaseUrl: string;
  readonly #options: PoolerOptions;
  readonly #listener = net.createServer((socket) => void this.#serve(socket));
  readonly #clients = new Set<Socket>();
  readonly #backends = new Set<Backend>();
  #idle: Backend[] = [];
  /** Being opened. */
  #opening = 0;
  #waiting: ((backend: Backend) => void)[] = [];
  #isKilled = false;

  constructor(databaseUrl: string, options: PoolerOptions) {
    this.#databaseUrl = databaseUrl;
    this.#options = options;
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port;
  }

  async listen(port: number): Promise<void> {
    this.#listener.listen(port, '127.0.0.1');
    await once(this.#listener, 'listening');
  }

  async kill(): Promise<void> {
    this.#isKilled = true;
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    for (const client of this.#clients) client.destroy();
    for (const backend of this.#backends) backend.destroy();
    await closed;
  }

  async #serve(socket: Socket): Promise<void> {
    const ignoredParameters = (this.#options.ignoredParameters ?? '').split(',');
    this.#clients.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.#clients.delete(socket));
    const session = new ClientSession(socket, ignoredParameters, {
      acquire: () => this.#acquire(),
      release: (backend) => this.#release(backend),
    });
    try {
      for await (const bytes of socket) await session.read(bytes);
    } catch {
      // Reset: the same as an end.
    }
    session.end();
    socket.destroy();
  }

  #acquire(): Promise<Backend> {
    const promise = new Promise<Backend>((resolve) => this.#waiting.push(resolve));
    this.#handOut();
    return promise;
  }

  #release(backend: Backend): void {
    if (backend.isOpen) this.#idle.push(backend);
    this.#handOut();
  }

  #handOut(): void {
    while (this.#waiting.length > 0) {
      const backend = this.#idle.shift();
      if (backend === undefined) break;
      this.#waiting.shift()?.(backend);
    }
    const wanted = Math.min(this.#waiting.length, this.#options.poolSize - this.#backends.size);
    for (let more = wanted - this.#opening; more > 0; more--) void this.#open();
  }

  async #open(): Promise<void> {
    this.#opening++;
    while (!this.#isKilled) {
      try {
        const backend = await Backend.open(this.#databaseUrl);
        this.#backends.add(backend);
        backend.onClose(() => {
          this.#backends.delete(backend);
          this.#idle = this.#idle.filter((each) => each !== backend);
          if (!this.#isKilled) this.#handOut();
        });
        if (this.#isKilled) backend.destroy();
        else this.#idle.push(backend);
        break;
      } catch {
        // The server is away: its clients wait, as they do for a free connection.
        await sleep(100);
      }
    }
    this.#opening--;
    this.#handOut();
  }
}
