import { once } from 'node:events';
import net from 'node:net';
import { urlThrough } from './socketUrl.js';

/** A way to the database that a test can cut, or leave hanging, and restore. */
export interface Relay {
  /** The database's URL by this way. */
  url: string;
  /** Ends all connections; new ones are refused. */
  cut(): Promise<void>;
  /** Connections stay and say nothing; new ones open and say nothing. */
  hang(): void;
  /** Undoes `cut` and `hang`. */
  restore(): Promise<void>;
  close(): Promise<void>;
}

export async function openRelay(databaseUrl: string): Promise<Relay> {
  const target = new URL(databaseUrl);
  const pairs = new Set<[net.Socket, net.Socket]>();
  let isHanging = false;
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(target.port), target.hostname);
    const pair: [net.Socket, net.Socket] = [client, upstream];
    pairs.add(pair);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on('data', (data) => to.write(data));
      from.on('error', () => {});
      from.on('close', () => {
        to.destroy();
        pairs.delete(pair);
      });
    }
    if (isHanging) for (const socket of pair) socket.pause();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;

  async function cut(): Promise<void> {
    if (!server.listening) return;
    const closed = once(server, 'close');
    server.close();
    for (const pair of pairs) for (const socket of pair) socket.destroy();
    await closed;
  }

  return {
    url: urlThrough(databaseUrl, port),
    cut,
    hang() {
      isHanging = true;
      for (const pair of pairs) for (const socket of pair) socket.pause();
    },
    async restore() {
      isHanging = false;
      for (const pair of pairs) for (const socket of pair) socket.resume();
      if (server.listening) return;
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
    },
    close: cut,
  };
}
