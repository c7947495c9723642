import { once } from 'node:events';
import net from 'node:net';
import { urlThrough } from './socketUrl.js';

/**
 * Where the connection breaks, seen from the client:
 * - `beforeServer`: the statement never reaches the server
 * - `afterCommit`: the server has answered, so has committed; the answer is lost
 */
export type CutPlace = 'beforeServer' | 'afterCommit';

export interface CuttingProxy extends AsyncDisposable {
  /** The server's URL by way of the proxy. */
  url: string;
  /** Cuts the connection of each of the next `times` messages that contain the text. */
  cutNext(text: string, place: CutPlace, times?: number): void;
  /** Connections cut so far. */
  readonly cuts: number;
}

/**
 * A TCP proxy to a PostgreSQL server that breaks a connection between send and answer. A
 * message is recognized by a text in it; prepared statements carry their name each time.
 */
export async function startCuttingProxy(serverUrl: string): Promise<CuttingProxy> {
  const target = new URL(serverUrl);
  let armed: { text: string; place: CutPlace; times: number } | null = null;
  let cuts = 0;
  const sockets = new Set<net.Socket>();

  const server = net.createServer((client) => {
    const upstream = net.connect(Number(target.port), target.hostname);
    let isDoomed = false;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => {});
    }
    const end = () => {
      client.destroy();
      upstream.destroy();
      sockets.delete(client);
      sockets.delete(upstream);
    };
    client.on('close', end);
    upstream.on('close', end);
    client.on('data', (data) => {
      const place = takeCut(data);
      if (place === 'beforeServer') return end();
      isDoomed ||= place === 'afterCommit';
      upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (!isDoomed) return void client.write(data);
      // ReadyForQuery, idle: the transaction has ended.
      if (data.subarray(-6).equals(Buffer.from([0x5a, 0, 0, 0, 5, 0x49]))) end();
    });
  });

  function takeCut(data: Buffer): CutPlace | null {
    if (!armed || !data.includes(armed.text)) return null;
    const { place } = armed;
    cuts++;
    armed.times--;
    if (armed.times === 0) armed = null;
    return place;
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  return {
    url: urlThrough(serverUrl, port),
    cutNext(text, place, times = 1) {
      armed = { text, place, times };
    },
    get cuts() {
      return cuts;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
