import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { systemLookup } from '../../../src/alerts/address.js';
import { sendWebhook } from '../../../src/alerts/send.js';

/** Whatever a receiver answers, a try ends: one that did not would keep its place for ever. */
let server: net.Server;
const sockets = new Set<net.Socket>();

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await new Promise((resolve) => server.close(resolve));
});

async function sendTo(answer: string | null, end: boolean): Promise<unknown> {
  server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('data', () => {
      if (answer !== null) socket.write(answer);
      if (end) socket.end();
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const options = { lookup: systemLookup, allowsPrivate: true, timeoutMs: 500 };
  return await sendWebhook(`http://127.0.0.1:${port}/`, {}, '{}', options);
}

const head = (status: string, ...headers: string[]) =>
  [`HTTP/1.1 ${status}`, ...headers, '', ''].join('\r\n');

describe('a try ends', () => {
  it.each([
    [
      'another protocol',
      head('101 Switching Protocols', 'connection: upgrade', 'upgrade: x'),
      { status: 101 },
    ],
    ['an answer to come', head('100 Continue'), { status: null, error: 'no answer within 0.5 s' }],
    ['hints', head('103 Early Hints'), { status: null, error: 'no answer within 0.5 s' }],
    ['nothing', null, { status: null, error: 'no answer within 0.5 s' }],
    ['no HTTP', 'hello\r\n\r\n', { status: null, error: 'HPE_INVALID_CONSTANT' }],
    ['half of an answer', `${head('200 OK', 'content-length: 9')}half`, { status: 200 }],
    ['a redirect', head('302 Found', 'location: /', 'content-length: 0'), { status: 302 }],
  ])('at %s', async (_name, answer, expected) => {
    expect(await sendTo(answer, false)).toMatchObject(expected);
  });

  it('at a connection that is closed', async () => {
    expect(await sendTo(null, true)).toMatchObject({ status: null, error: 'ECONNRESET' });
    await new Promise((resolve) => server.close(resolve));
    const upgrade = head('101 Switching Protocols', 'connection: upgrade', 'upgrade: x');
    expect(await sendTo(upgrade, true)).toMatchObject({ status: 101 });
  });
});
