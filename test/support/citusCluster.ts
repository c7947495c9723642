import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { databaseUrl } from './database.js';

/**
 * On a real Citus: MICRODOLLAR_CITUS_URL is the coordinator's, as a role that may create databases,
 * with two workers that take the same role and password.
 */
const CITUS_URL = process.env.MICRODOLLAR_CITUS_URL ?? '';

export interface CitusCluster {
  /** Of a database of its own, on the coordinator and on each worker. */
  coordinatorUrl: string;
  workerUrls: string[];
  drop(): Promise<void>;
}

function urlOfNode(node: { host: string; port: number }): string {
  const url = new URL(CITUS_URL);
  url.hostname = node.host;
  url.port = String(node.port);
  return url.href;
}

/** On a connection of its own. @returns rows of the last statement */
export async function runOn<Row = Record<string, unknown>>(
  url: string,
  ...statements: string[]
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  await client.connect();
  try {
    let rows: Row[] = [];
    for (const statement of statements) rows = (await client.query(statement)).rows as Row[];
    return rows;
  } finally {
    await client.end();
  }
}

/** A database of Citus, made on every node, as where schemas are tenants. */
export async function createCitusDatabase(): Promise<CitusCluster> {
  const name = `microdollar_${randomUUID().slice(0, 8)}`;
  const servers = (
    await runOn<{ host: string; port: number }>(
      CITUS_URL,
      `select nodename as host, nodeport as port from pg_dist_node
      where noderole = 'primary' order by groupid`,
    )
  ).map(urlOfNode);
  for (const server of servers) {
    // From a database without Citus, which makes them on its coordinator alone.
    await runOn(databaseUrl(server, 'postgres'), `create database ${name}`);
    await runOn(databaseUrl(server, name), 'create extension citus');
  }
  const [coordinatorUrl = '', ...workerUrls] = servers.map((server) => databaseUrl(server, name));
  const address = (url: string) => `'${new URL(url).hostname}', ${new URL(url).port}`;
  await runOn(coordinatorUrl, `select citus_set_coordinator_host(${address(coordinatorUrl)})`);
  for (const worker of workerUrls) {
    await runOn(coordinatorUrl, `select citus_add_node(${address(worker)})`);
  }
  for (const server of servers) {
    await runOn(
      databaseUrl(server, 'postgres'),
      `alter database ${name} set citus.enable_schema_based_sharding = on`,
    );
  }
  return {
    coordinatorUrl,
    workerUrls,
    async drop() {
      for (const server of servers.toReversed()) {
        await runOn(databaseUrl(server, 'postgres'), `drop database ${name} with (force)`);
      }
    },
  };
}
