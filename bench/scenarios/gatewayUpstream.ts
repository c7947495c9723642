/**
 * A provider as a process of its own: chat completions of a fixed size. Streams send `CHUNKS`
 * events, one every `delayMs` of the request's `metadata`; whole answers come at once.
 */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const CHUNKS = 20;
const MODEL = 'gpt-4.1-nano-2025-04-14';
const COMMON = { id: 'chatcmpl-bench', created: 1_770_933_892, model: MODEL };
const USAGE = {
  prompt_tokens: 1_200,
  completion_tokens: 60,
  total_tokens: 1_260,
  prompt_tokens_details: { cached_tokens: 1_024 },
};

const whole = Buffer.from(
  JSON.stringify({
    ...COMMON,
    object: 'chat.completion',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: 'It holds what it says. '.repeat(12) },
        finish_reason: 'stop',
      },
    ],
    usage: USAGE,
  }),
);
const event = (payload: object) =>
  Buffer.from(
    `data: ${JSON.stringify({ ...COMMON, object: 'chat.completion.chunk', ...payload })}\n\n`,
  );
const delta = event({
  choices: [{ index: 0, delta: { content: ' some words of it' }, finish_reason: null }],
});
const end = Buffer.concat([
  event({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] }),
  event({ choices: [], usage: USAGE }),
  Buffer.from('data: [DONE]\n\n'),
]);

async function answer(body: string, response: ServerResponse): Promise<void> {
  const request = JSON.parse(body);
  if (request.stream !== true) {
    response.writeHead(200, {
      'content-type': 'application/json',
      'content-length': whole.length,
    });
    response.end(whole);
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const delayMs = Number(request.metadata?.delay_ms ?? 0);
  for (let chunk = 0; chunk < CHUNKS; chunk++) {
    response.write(delta);
    if (delayMs > 0) await sleep(delayMs);
  }
  response.end(end);
}

const server = createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (chunk: string) => {
    body += chunk;
  });
  request.on('end', () => {
    answer(body, response).catch(() => response.destroy());
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
process.on('SIGTERM', () => process.exit(0));
