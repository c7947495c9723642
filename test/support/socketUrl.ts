import path from 'node:path';
import { placesOf } from '../../src/db/embedded/cluster.js';
import { inTestSchema } from './testSchema.js';

/** Of a socket's path, on every system. */
const MAX_PATH_BYTES = 100;

/** For a server of tests: half of what a statement costs over TCP is the way to it. */
export const SOCKET_SETTINGS: Record<string, string> =
  process.platform === 'win32' ? {} : { unix_socket_directories: '.' };

/** Its URL over the socket in its cluster; over TCP where there is none. */
export function socketUrl(server: { url: string; port: number; dataDir: string }): string {
  const { cluster } = placesOf(server.dataDir);
  const file = path.join(cluster, `.s.PGSQL.${server.port}`);
  if (process.platform === 'win32' || file.length > MAX_PATH_BYTES) return server.url;
  const url = new URL(server.url);
  url.searchParams.set('host', cluster);
  return url.href;
}

/** The database by another way: a relay or proxy at this port. */
export function urlThrough(databaseUrl: string, port: number): string {
  return inTestSchema(urlThroughPooler(databaseUrl, port));
}

/** The same by a pooler, which takes no startup options. */
export function urlThroughPooler(databaseUrl: string, port: number): string {
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  url.search = '';
  return url.href;
}
