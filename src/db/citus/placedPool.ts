import type { Connection } from 'pg';
import pg from 'pg';
import { isGone, isMoved, MOVED } from '../sqlstate.js';
import type { NodeAddress, Placement } from './placement.js';

type Opened = ((error: Error) => void) | ((error: null, client: pg.Client) => void);
type Acquired = (
  error: Error | undefined,
  client: pg.PoolClient | undefined,
  done: (release?: unknown) => void,
) => void;

/** A connection that was used within it is taken as it is. */
const IDLE_MS = 1_000;
/** Connections that are replaced before one is taken as it is. */
const MAX_REFUSED = 3;

/** Connections of a schema that Citus places, each to the node that has it when it is opened. */
function placedClient(placement: Placement): typeof pg.Client {
  return class PlacedClient extends pg.Client {
    override connect(): Promise<pg.Client>;
    override connect(callback: Opened): void;
    override connect(callback?: Opened): Promise<pg.Client> | undefined {
      const connecting = this.#connect();
      if (callback === undefined) return connecting;
      const opened = callback as (error: Error | null, client?: pg.Client) => void;
      connecting.then((client) => opened(null, client), opened);
      return undefined;
    }

    async #connect(): Promise<pg.Client> {
      const node = await placement.node();
      Object.assign(this, node);
      // It may break before the pool, which is told a little later, listens to it.
      this.on('error', () => {});
      const { connection } = this as unknown as { connection: Connection };
      connection.prependListener('errorMessage', (error: pg.DatabaseError) => {
        // The views of a schema that has moved go with the tables that were left.
        if (isGone(error)) Object.assign(error, MOVED);
        if (isMoved(error)) placement.doubt(node);
      });
      try {
        await super.connect();
        return this;
      } catch (error) {
        placement.doubt(node);
        throw error;
      }
    }
  };
}

/** As `pg.Pool`; a connection to a node that no longer has the schema is replaced before it is used. */
export class PlacedPool extends pg.Pool {
  readonly #placement: Placement;
  readonly #usedAtMs = new WeakMap<pg.PoolClient, number>();

  constructor(options: pg.PoolConfig, placement: Placement) {
    super({ ...options, Client: placedClient(placement) } as pg.PoolConfig);
    this.#placement = placement;
    this.on('release', (_error, client) => this.#usedAtMs.set(client, performance.now()));
  }

  override connect(): Promise<pg.PoolClient>;
  override connect(callback: Acquired): void;
  override connect(callback?: Acquired): Promise<pg.PoolClient> | undefined {
    const connecting = this.#connect();
    if (callback === undefined) return connecting;
    connecting.then(
      (client) => callback(undefined, client, (release) => client.release(release as Error)),
      (error) => callback(error, undefined, () => {}),
    );
    return undefined;
  }

  async #connect(): Promise<pg.PoolClient> {
    for (let refused = 0; ; ) {
      const client = await super.connect();
      const isFit = await this.#isFit(client);
      await this.#placement.node().catch(() => {});
      // Where nobody can say where it is, the statement tells what is wrong.
      if (!isFit) refused += 1;
      const isTaken = isFit || refused > MAX_REFUSED;
      if (isTaken && this.#placement.isCurrent(client as unknown as NodeAddress)) return client;
      client.release(true);
    }
  }

  /**
   * One that is new or was idle is asked: whoever writes in a transaction of several statements is not
   * refused, and whoever reads only the catalog is not told that there is no ledger.
   */
  async #isFit(client: pg.PoolClient): Promise<boolean> {
    const usedAtMs = this.#usedAtMs.get(client);
    if (usedAtMs !== undefined && performance.now() - usedAtMs < IDLE_MS) return true;
    try {
      // Not the function alone, which outlives the views: the schema may have gone and come back.
      await client.query('select from ledger_settings');
      return true;
    } catch {
      return false;
    }
  }
}
