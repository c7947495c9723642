import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { UsageRecordingError, withUsage } from '../../../src/gateway/sdk/index.js';

/** Recording over HTTP: the event has its id before the first attempt, so that all are one. */
let server: Server;
let url: string;
/** What the server answers, in order; the last one again and again. */
let answers: (readonly [status: number, body: unknown] | 'cut')[];
let requests: {
  authorization: string | undefined;
  path: string | undefined;
  ids: string[];
  times: (string | null)[];
}[];

const RESULT = { id: 'x', created_at: 'y', status: 'recorded', new_microdollars_used: 1 };
const RECORDED = [200, { results: [RESULT] }] as const;

beforeAll(async () => {
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const { events } = JSON.parse(Buffer.concat(chunks).toString());
    requests.push({
      authorization: request.headers.authorization,
      path: request.url,
      ids: events.map((event: { id: string }) => event.id),
      times: events.map((event: { created_at: string | null }) => event.created_at),
    });
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer === undefined || answer === 'cut') return void request.socket.destroy();
    response.writeHead(answer[0]).end(JSON.stringify(answer[1]));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => void server.close());
beforeEach(() => {
  requests = [];
});

const answer = {
  object: 'chat.completion',
  model: 'gpt-4.1',
  usage: { prompt_tokens: 10, completion_tokens: 2 },
};
const record = (results: unknown[] = []) =>
  withUsage(
    { url, key: 'secret-key' },
    { kilo_user_id: 'u', onRecorded: (result) => void results.push(result) },
    async () => answer,
  );

describe('recording at a server', () => {
  it('posts the event with the key', async () => {
    answers = [RECORDED];
    const results: unknown[] = [];
    expect(await record(results)).toBe(answer);
    expect(results).toEqual([RESULT]);
    expect(requests).toMatchObject([{ path: '/api/usage', authorization: 'Bearer secret-key' }]);
  });

  it('tries again what may pass, as the same event', async () => {
    const busy = { error: { code: 'unavailable', message: 'm' } };
    answers = ['cut', [503, busy], [429, {}], RECORDED];
    await record();
    expect(requests).toHaveLength(4);
    expect(new Set(requests.flatMap(({ ids }) => ids)).size).toBe(1);
  });

  it("leaves the time to a server whose clock is not its own, where that refuses the event's", async () => {
    const error = { code: 'invalid_event', message: 'm', details: { field: 'created_at' } };
    answers = [[200, { results: [{ status: 'rejected', error }] }], RECORDED];
    await record();
    expect(requests.map(({ times }) => times)).toEqual([[expect.any(String)], [null]]);
    expect(new Set(requests.flatMap(({ ids }) => ids)).size).toBe(1);
    answers = [[200, { results: [{ status: 'rejected', error }] }]];
    await expect(record()).rejects.toThrow(UsageRecordingError);
  });

  it.each([
    [
      'a rejected event',
      [200, { results: [{ status: 'rejected', error: { code: 'unknown_user' } }] }],
      'unknown_user',
    ],
    ['a refused key', [401, { error: { code: 'unauthorized', message: 'm' } }], 'unauthorized'],
    ['another answer', [404, {}], 'internal'],
  ] as const)('does not try again: %s', async (_name, only, code) => {
    answers = [only];
    const error = await record().catch((thrown) => thrown);
    expect(error).toBeInstanceOf(UsageRecordingError);
    expect(error.cause).toMatchObject({ code });
    expect(JSON.stringify(error)).not.toContain('secret-key');
    expect(requests).toHaveLength(1);
  });
});
