import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { LedgerError } from '../../errors.js';
import { inSchema } from '../ledgerSchema.js';
import { isNotPermitted } from '../sqlstate.js';
import { withClient } from '../withClient.js';
import { buildLocalSchema } from './localSchema.js';
import { FIND_NODE, isAgreed, LOCAL_STATE, type NodeRow } from './localSchema.sql.js';
import { type CitusPlace, citusPlaceOf, localSchemaOf } from './placedUrl.js';

export interface NodeAddress {
  host: string;
  port: number;
}

/** Of looks at the coordinator and its nodes. */
export const PLACEMENT_CLIENT = {
  applicationName: 'microdollar placement',
  connectTimeoutMs: 5_000,
};
/** The commits of a move reach the nodes one after the other. */
const AGREE_MS = 10_000;
const AGREE_INTERVAL_MS = 50;
/** While the coordinator is away, a node that was known is asked about no oftener. */
const REST_MS = 1_000;

/**
 * The node that has a schema which Citus places, by Citus' own metadata; with views there to work by
 * (localSchema.ts). Known until it is doubted, by a session that was refused or a node that does not
 * answer. An old answer sends nobody astray: what runs there is refused.
 */
export class Placement {
  readonly #place: CitusPlace;
  #address: NodeAddress | null = null;
  #isDoubted = true;
  #asking: Promise<NodeAddress> | null = null;
  #restsUntilMs = 0;

  constructor(place: CitusPlace) {
    this.#place = place;
  }

  /** @throws LedgerError `unavailable`; whatever the coordinator or the node says */
  async node(): Promise<NodeAddress> {
    const isKnown = !this.#isDoubted || performance.now() < this.#restsUntilMs;
    if (this.#address !== null && isKnown) return this.#address;
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    return await this.#asking;
  }

  /** As `node`, of Citus as it is now: for who asks the catalog alone, and is refused nothing. */
  async nodeNow(): Promise<NodeAddress> {
    this.#isDoubted = true;
    return await this.node();
  }

  /** Whether connections to this node are of use, as far as is known. */
  isCurrent({ host, port }: NodeAddress): boolean {
    const known = this.#address;
    return known !== null && known.host === host && known.port === port;
  }

  /** Something was refused there, or nothing answered: the next connection asks Citus again. */
  doubt(address: NodeAddress): void {
    if (this.isCurrent(address)) this.#isDoubted = true;
  }

  async #ask(): Promise<NodeAddress> {
    this.#isDoubted = false;
    try {
      this.#address = await withClient(
        this.#place.coordinatorUrl,
        PLACEMENT_CLIENT,
        (coordinator) => this.#find(coordinator),
      );
      return this.#address;
    } catch (error) {
      this.#isDoubted = true;
      // The schema does not move while the coordinator is away.
      if (this.#address === null || error instanceof LedgerError) throw error;
      this.#restsUntilMs = performance.now() + REST_MS;
      return this.#address;
    }
  }

  async #find(coordinator: pg.Client): Promise<NodeAddress> {
    const { schema } = this.#place;
    const deadlineMs = performance.now() + AGREE_MS;
    for (;;) {
      const node = await findNode(coordinator, schema);
      const { host, port } = node;
      const isReady = await withClient(
        urlOfNode(this.#place, node),
        PLACEMENT_CLIENT,
        async (client) => {
          const { rows } = await client.query(LOCAL_STATE, [schema, localSchemaOf(schema)]);
          if (!rows[0].is_here) return false;
          if (rows[0].is_built) return true;
          const agree = async (): Promise<boolean> => {
            const { rows: all } = await coordinator.query(isAgreed(node.shard_id, node.group_id));
            return all[0].agreed;
          };
          return (await agree()) && (await buildAt(client, schema, agree));
        },
      );
      if (isReady) return { host, port };
      if (performance.now() > deadlineMs) {
        throw new LedgerError(
          'unavailable',
          `the nodes of Citus do not agree yet on where the schema ${schema} is, or one does not answer`,
          { details: { schema } },
        );
      }
      await sleep(AGREE_INTERVAL_MS);
    }
  }
}

/** @throws LedgerError `unavailable` where Citus does not place the schema */
async function findNode(coordinator: pg.Client, schema: string): Promise<NodeRow> {
  const { rows } = await coordinator.query<NodeRow>(FIND_NODE, [schema]);
  const [node] = rows;
  if (node !== undefined) return node;
  throw new LedgerError(
    'unavailable',
    `Citus places no ledger in a schema ${schema}: run microdollar migrate`,
    { details: { field: 'schema', schema } },
  );
}

async function buildAt(
  client: pg.Client,
  schema: string,
  agree: () => Promise<boolean>,
): Promise<boolean> {
  try {
    return await buildLocalSchema(client, schema, agree);
  } catch (error) {
    if (!isNotPermitted(error)) throw error;
    throw new LedgerError(
      'unavailable',
      `the schema ${schema} is on another node now, and this role may not prepare it there: connect ` +
        'as its owner, who needs CREATE on the database',
      { details: { schema }, cause: error },
    );
  }
}

/** The URL of a ledger as it is for one connection, opened now: a plain one, to the node that has it. */
export async function plainUrl(url: string): Promise<string> {
  const place = citusPlaceOf(url);
  const node = await placementOf(url)?.nodeNow();
  if (place === null || node === undefined) return url;
  return inSchema(urlOfNode(place, node), localSchemaOf(place.schema));
}

/** With role and password of the coordinator's URL, which each node has to know. */
export function urlOfNode({ coordinatorUrl }: CitusPlace, { host, port }: NodeAddress): string {
  const url = new URL(coordinatorUrl);
  url.hostname = host.includes(':') ? `[${host}]` : host;
  url.port = String(port);
  return url.href;
}

const placements = new Map<string, Placement>();

/** Of the URL's schema, the same for a process; null for a URL of an ordinary ledger. */
export function placementOf(url: string): Placement | null {
  const place = citusPlaceOf(url);
  if (place === null) return null;
  const key = JSON.stringify([place.coordinatorUrl, place.schema]);
  let placement = placements.get(key);
  if (placement === undefined) {
    placement = new Placement(place);
    placements.set(key, placement);
  }
  return placement;
}
