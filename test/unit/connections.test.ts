import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { trackConnections } from '../../src/server/connections.js';

const REQUEST = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n';

async function openServer(most: number) {
  const server = createServer((_request, response) => response.end('answered'));
  trackConnections(server, most);
  server.listen(0);
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return server;
}

async function ask(port: number): Promise<Socket> {
  const socket = connect(port).on('error', () => {});
  socket.write(REQUEST);
  await once(socket, 'data');
  await sleep(10);
  return socket;
}

it('passes over a connection amid the headers of its next request', async () => {
  const server = await openServer(3);
  const { port } = server.address() as AddressInfo;
  const [first, second] = [await ask(port), await ask(port)];
  first.write(REQUEST.slice(0, 20));
  await sleep(50);
  const third = await ask(port);
  await expect.poll(() => second.destroyed).toBe(true);
  first.write(REQUEST.slice(20));
  const [answer] = await once(first, 'data');
  expect(String(answer)).toMatch(/^HTTP\/1.1 200/);
  for (const socket of [first, third]) socket.destroy();
});

it('ends one idle connection for each that comes, before those that were ended have closed', async () => {
  const server = await openServer(3);
  const { port } = server.address() as AddressInfo;
  const accepted: Socket[] = [];
  server.on('connection', (socket) => accepted.push(socket));
  await ask(port);
  await ask(port);
  for (let count = 0; count < 2; count++) server.emit('connection', new Socket());
  expect(accepted.slice(0, 2).map(({ destroyed }) => destroyed)).toEqual([true, true]);
});
