import { once } from 'node:events';
import net from 'node:net';
import { urlThrough } from '../../support/socketUrl.js';
import type { Random } from './scale.js';

/**
 * What happens to a message on its way, in either direction:
 * - `delay`: it comes later
 * - `cutBeforeSend`: it never leaves, the connection breaks
 * - `cutInside`: a part of it arrives, then the connection breaks
 * - `cutAfterSend`: it arrives; the connection breaks before any answer to it
 * - `hang`: it and all that follows is swallowed, and the connection stays open for long
 */
export const FATES = ['delay', 'cutBeforeSend', 'cutInside', 'cutAfterSend', 'hang'] as const;
export type Fate = (typeof FATES)[number];

export interface ChaosProxy extends AsyncDisposable {
  /** The server's URL by way of the proxy. */
  url: string;
  /** Fates met so far, in each direction. */
  readonly met: ReadonlyMap<`${'request' | 'answer'} ${Fate}`, number>;
  /** No more faults from now on; what hangs is cut. */
  calm(): void;
}

export interface ChaosOptions {
  random: Random;
  /** Of messages, 0 to 1. */
  faultShare: number;
  /** For a connection that hangs, until it is cut. */
  hangMs: number;
}

/** A TCP proxy that delays, drops and cuts at random; each fate in turn, so that none is left out. */
export async function startChaosProxy(
  serverUrl: string,
  { random, faultShare, hangMs }: ChaosOptions,
): Promise<ChaosProxy> {
  const target = new URL(serverUrl);
  const pairs = new Set<() => void>();
  const met = new Map<`${'request' | 'answer'} ${Fate}`, number>();
  const turns = { request: 0, answer: 0 };
  let isCalm = false;

  const drawFate = (direction: 'request' | 'answer'): Fate | null => {
    if (isCalm || random.next() >= faultShare) return null;
    const fate = FATES[turns[direction]++ % FATES.length] as Fate;
    met.set(`${direction} ${fate}`, (met.get(`${direction} ${fate}`) ?? 0) + 1);
    return fate;
  };

  const server = net.createServer((client) => {
    const upstream = net.connect(Number(target.port), target.hostname);
    let isHanging = false;
    const cut = () => {
      client.destroy();
      upstream.destroy();
      pairs.delete(cut);
    };
    pairs.add(cut);
    const carry = (from: net.Socket, to: net.Socket, direction: 'request' | 'answer') => {
      from.setNoDelay(true);
      from.on('error', () => {});
      from.on('close', cut);
      from.on('data', (data) => {
        if (isHanging) return;
        const fate = drawFate(direction);
        if (fate === null) return void to.write(data);
        if (fate === 'delay') {
          from.pause();
          setTimeout(
            () => {
              to.write(data);
              from.resume();
            },
            random.between(5, 80),
          );
        } else if (fate === 'hang') {
          isHanging = true;
          setTimeout(cut, hangMs).unref();
        } else if (fate === 'cutBeforeSend') cut();
        else {
          // `end` sends what was written before it closes.
          const whole = fate === 'cutAfterSend';
          isHanging = true;
          to.end(whole ? data : data.subarray(0, random.between(0, data.length)));
          from.destroy();
        }
      });
    };
    carry(client, upstream, 'request');
    carry(upstream, client, 'answer');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  return {
    url: urlThrough(serverUrl, port).replace(/\/$/, ''),
    met,
    calm() {
      isCalm = true;
      for (const cut of [...pairs]) cut();
    },
    async [Symbol.asyncDispose]() {
      for (const cut of [...pairs]) cut();
      server.close();
      await once(server, 'close');
    },
  };
}
