import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { afterEach, expect, it } from 'vitest';
import { openSocket, postBytes, readAnswer } from '../support/rawHttp.js';
import { startTestGateway, type TestGateway } from './gatewayHarness.js';

let gateway: TestGateway;
afterEach(() => gateway?.stop());

/** A stream that has begun: both of its ends. */
async function openStream(): Promise<{ answer: Promise<Buffer>; provider: ServerResponse }> {
  const { key } = await gateway.newUser();
  const begun = new Promise<ServerResponse>((resolve) => {
    gateway.upstream.script('stream', (response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: {"model":"gpt-4.1-nano","choices":[{"delta":{"content":"a"}}]}\n\n');
      resolve(response);
    });
  });
  const socket = await openSocket(gateway.url);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk) => chunks.push(chunk));
  const answer = once(socket, 'close').then(() => Buffer.concat(chunks));
  const body = '{"model":"script:stream","stream":true}';
  const headers = { authorization: `Bearer ${key}`, connection: 'close' };
  socket.write(postBytes('/v1/chat/completions', headers, body));
  const provider = await begun;
  await once(socket, 'data');
  return { answer, provider };
}

const recorded = () => gateway.rows('select id, has_error from microdollar_usage');

it('lets an answer in flight end, and takes no new request', async () => {
  gateway = await startTestGateway();
  const { answer, provider } = await openStream();
  const closed = gateway.server.close();
  const refused = await fetch(`${gateway.url}/v1/models`).then(
    (response) => response.status,
    () => 'not accepted',
  );
  expect([503, 'not accepted']).toContain(refused);
  provider.end('data: [DONE]\n\n');
  const { body, isComplete } = readAnswer(await answer);
  expect(isComplete).toBe(true);
  expect(String(body)).toMatch(/\[DONE\]\n\n$/);
  await closed;
  expect(await recorded()).toHaveLength(1);
});

it('cuts what takes too long, and records what is known of it', async () => {
  gateway = await startTestGateway({ gateway: { limits: { shutdownTimeoutMs: 100 } } });
  const { answer, provider } = await openStream();
  const left = once(provider, 'close');
  await gateway.server.close();
  await left;
  expect(readAnswer(await answer).isComplete).toBe(false);
  expect(await recorded()).toEqual([{ id: expect.any(String), has_error: true }]);
});
