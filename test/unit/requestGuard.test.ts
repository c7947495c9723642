import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { fastify } from 'fastify';
import { expect, it, onTestFinished } from 'vitest';
import { addRequestGuard } from '../../src/server/requestGuard.js';

it('after an answer that did not wait for its body nothing more is done on the connection', async () => {
  const app = fastify();
  onTestFinished(() => app.close());
  addRequestGuard(app, { bodySilenceMs: 10_000 }, () => false);
  const asked: string[] = [];
  app.post('/early', { onRequest: async (_request, reply) => reply.code(401).send() }, () => {});
  app.post('/next', async () => void asked.push('next'));
  await app.listen({ port: 0 });
  const socket = connect((app.server.address() as AddressInfo).port);
  const closed = once(socket, 'close');
  const next = 'POST /next HTTP/1.1\r\nhost: x\r\n\r\n';
  socket.write('POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n');
  const [answer] = await once(socket, 'data');
  expect(String(answer)).toMatch(/^HTTP\/1.1 401 .*connection: close/is);
  socket.write(`0123456789${next}`);
  await closed;
  expect(asked).toEqual([]);
});

it('nor is it while that answer has yet to leave', async () => {
  const app = fastify();
  onTestFinished(() => app.close());
  addRequestGuard(app, { bodySilenceMs: 10_000 }, () => false);
  let letGo = () => {};
  const sent = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const answering = once(app.server, 'answering');
  app.addHook('onSend', async () => {
    app.server.emit('answering');
    await sent;
  });
  const asked: string[] = [];
  app.post('/early', { onRequest: async (_request, reply) => reply.code(401).send() }, () => {});
  app.post('/next', { onRequest: async () => void asked.push('next') }, () => {});
  await app.listen({ port: 0 });
  const socket = connect((app.server.address() as AddressInfo).port);
  const closed = once(socket.resume(), 'close');
  socket.write('POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n');
  await answering;
  const next = once(app.server, 'request');
  socket.write('0123456789POST /next HTTP/1.1\r\nhost: x\r\n\r\n');
  await next;
  await new Promise(setImmediate);
  letGo();
  await closed;
  expect(asked).toEqual([]);
});
