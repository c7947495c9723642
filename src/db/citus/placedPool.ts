import type { Connection } from 'pg';
import pg from 'pg';
import { sqlStateOf } from '../sqlstate.js';
import { MOVED, MOVED_SQLSTATE } from './localSchema.sql.js';
import type { NodeAddress, Placement } from './placement.js';

type Opened = ((error: Error) => void) | ((error: null, client: pg.Client) => void);
type Acquired = (
  error: Error | undefined,
  client: pg.PoolClient | undefined,
  done: (release?: unknown) => void,
) => void;

/** What is said once the views of a schema that has moved are gone with the tables that were left. */
const GONE: ReadonlySet<string> = new Set(['42P01', '3F000', '42883']);

/** The schema has moved: this did nothing, and finds it on another connection. */
export function isMoved(error: unknown): boolean {
  return sqlStateOf(error) === MOVED_SQLSTATE && (error as Error).message === MOVED;
}

/** Connections of a schema that Citus places, each to the node that has it when it is opened. */
export function placedClient(placement: Placement): typeof pg.Client {
  return class PlacedClient extends pg.Client {
    override connect(): Promise<pg.Client>;
    override connect(callback: Opened): void;
    override connect(callback?: Opened): Promise<pg.Client> | void {
      const connecting = this.#connect();
      if (callback === undefined) return connecting;
      const opened = callback as (error: Error | null, client?: pg.Client) => void;
      connecting.then((client) => opened(null, client), opened);
    }

    async #connect(): Promise<pg.Client> {
      const node = await placement.node();
      Object.assign(this, node);
      const { connection } = this as unknown as { connection: Connection };
      connection.prependListener('errorMessage', (error: pg.DatabaseError) => {
        if (GONE.has(error.code ?? '')) {
          Object.assign(error, { message: MOVED, code: MOVED_SQLSTATE });
        }
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

  constructor(options: pg.PoolConfig, placement: Placement) {
    super({ ...options, Client: placedClient(placement) } as pg.PoolConfig);
    this.#placement = placement;
  }

  override connect(): Promise<pg.PoolClient>;
  override connect(callback: Acquired): void;
  override connect(callback?: Acquired): Promise<pg.PoolClient> | void {
    const connecting = this.#connect();
    if (callback === undefined) return connecting;
    connecting.then(
      (client) => callback(undefined, client, (release) => client.release(release as Error)),
      (error) => callback(error, undefined, () => {}),
    );
  }

  async #connect(): Promise<pg.PoolClient> {
    for (;;) {
      const client = await super.connect();
      await this.#placement.node().catch(() => {});
      if (this.#placement.isCurrent(client as unknown as NodeAddress)) return client;
      client.release(true);
    }
  }
}
