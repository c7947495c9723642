import { once } from 'node:events';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createServer } from '../../src/server/app.js';
import { appRouter } from '../../src/server/trpc/router.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { inForm } from '../support/form.js';
import { startTestServer, type TestServer } from './serverHarness.js';

let server: TestServer;
let ada: { id: string; key: string };
let eve: { id: string; key: string };
let adasOrganization: string;

/** Stands in ada's data and must never reach eve. */
const MARKER = 'model-only-ada-uses';

beforeAll(async () => {
  server = await startTestServer();
  ada = await server.newUser();
  eve = await server.newUser();
  adasOrganization = await server.newOrganization(ada.id);
  const answer = await server.post('/api/usage', {
    events: [
      { kilo_user_id: ada.id, cost: 1_234_567, model: MARKER },
      { kilo_user_id: ada.id, cost: 7_654_321, model: MARKER, organization_id: adasOrganization },
    ],
  });
  for (const result of answer.body.results) expect(result.status).toBe('recorded');
});

afterAll(async () => {
  expect(await checkInvariants(server.database.pool)).toEqual([]);
  const { rows } = await server.database.pool.query(
    `select count(*)::int as tables from pg_tables where tablename like 'microdollar%'`,
  );
  expect(rows[0].tables).toBeGreaterThan(3);
  await server.stop();
});

const QUERIES = new Set(
  Object.entries(appRouter._def.procedures)
    .filter(([, procedure]) => (procedure as { _def?: { type?: string } })._def?.type === 'query')
    .map(([name]) => name),
);

/** Never a failure of ours, always our own shape, and nothing of the inside. */
function expectRefusalOrAnswer(answer: { status: number; body: unknown }): void {
  expect(answer.status).not.toBe(500);
  expect(answer.status).toBeLessThan(500);
  const text = JSON.stringify(answer.body);
  expect(text).not.toMatch(/\bat .*\.(js|ts):\d+|node_modules|select .* from|syntax error/i);
}

const HOSTILE = [
  `'; drop table microdollar_usage; --`,
  `" or 1=1 --`,
  `$1`,
  `\\'; select pg_sleep(10); --`,
  '%00',
  '../../etc/passwd',
  '{{7*7}}',
  '<script>alert(1)</script>',
  '\u202e\ud800\u0000',
  '__proto__',
  'constructor',
  'x'.repeat(10_000),
];

const hostileText = fc.oneof(fc.constantFrom(...HOSTILE), fc.string({ unit: 'binary' }));
const hostileValue = fc.oneof(
  hostileText,
  fc.double(),
  fc.bigInt().map(String),
  fc.json(),
  fc.object(),
);

describe('fuzzed input', () => {
  const routes = ['/api/usage', '/api/users', '/api/organizations', '/api/keys', '/api/credits'];

  it('bodies of any JSON are answered, never with a failure', async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...routes), fc.jsonValue(), async (route, body) => {
        expectRefusalOrAnswer(await server.post(route, body));
      }),
      { numRuns: inForm(25, 150) },
    );
  });

  it('events with hostile fields are recorded as they are, or refused', async () => {
    const field = fc.constantFrom('id', 'kilo_user_id', 'cost', 'model', 'created_at', 'metadata');
    await fc.assert(
      fc.asyncProperty(field, hostileValue, async (name, value) => {
        const event = { kilo_user_id: ada.id, cost: 1, [name]: value };
        const answer = await server.post('/api/usage', { events: [event] });
        expectRefusalOrAnswer(answer);
      }),
      { numRuns: inForm(35, 200) },
    );
  });

  it('stores hostile text as text', async () => {
    for (const model of HOSTILE.filter((text) => text.length < 200 && !text.includes('\0'))) {
      const answer = await server.post('/api/usage', {
        events: [{ kilo_user_id: ada.id, cost: 0, model }],
      });
      const { id } = answer.body.results[0];
      const { rows } = await server.database.pool.query(
        'select model from microdollar_usage where id = $1',
        [id],
      );
      expect(rows[0].model).toBe(model.toWellFormed());
    }
  });

  it('bytes that are no JSON, and unexpected types of content, are refused', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        const response = await fetch(`${server.url}/api/usage`, {
          method: 'POST',
          headers: { authorization: `Bearer ${ada.key}`, 'content-type': 'application/json' },
          body: Buffer.from(bytes),
        });
        expect(response.status).toBeGreaterThanOrEqual(400);
        expect(response.status).toBeLessThan(500);
      }),
      { numRuns: inForm(10, 60) },
    );
  });

  it('queries of any input are answered, never with a failure', async () => {
    const procedures = fc.constantFrom(...Object.keys(appRouter._def.procedures));
    const inputs = fc.oneof(fc.jsonValue(), fc.record({ from: hostileText, until: hostileText }));
    await fc.assert(
      fc.asyncProperty(procedures, inputs, async (procedure, input) => {
        expectRefusalOrAnswer(await server.query(procedure, input, ada.key));
      }),
      { numRuns: inForm(25, 150) },
    );
  });

  it('header values cannot add headers or lines to the log', async () => {
    const answer = await raw(
      `GET /healthz HTTP/1.1\r\nhost: x\r\nx-request-id: a\rX-Evil: 1\r\nconnection: close\r\n\r\n`,
    );
    expect(answer.toLowerCase()).not.toContain('\r\nx-evil');
    const long = await raw(
      `GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: ${'y'.repeat(200_000)}\r\n\r\n`,
    );
    expect(long).toMatch(/^HTTP\/1\.1 4\d\d/);
    for (const line of server.logLines) expect(() => JSON.parse(line)).not.toThrow();
  });

  it('prototype keys in a body change nothing', async () => {
    const answer = await server.call('POST', '/api/usage', {
      body: '{"events":[],"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}}}',
    });
    expect(answer.status).toBe(400);
    expect(({} as Record<string, unknown>).admin).toBeUndefined();
  });
});

describe('bombs', () => {
  it.each([
    ['a body over the limit', JSON.stringify({ events: ['x'.repeat(5_000_000)] }), {}, 413],
    ['deep nesting', `${'['.repeat(50_000)}${']'.repeat(50_000)}`, {}, 400],
    ['a deep event', `{"events":${'[{"a":'.repeat(500)}1${'}]'.repeat(500)}}`, {}, 400],
  ])('%s is refused', async (_, body, headers, status) => {
    expect((await server.call('POST', '/api/usage', { body, headers })).status).toBe(status);
  });

  it('bodies beyond what all together may have are refused, and leave room when answered', async () => {
    const small = createServer({
      ledger: server.ledger,
      port: 0,
      logLevel: 'silent',
      limits: { bodiesInFlightBytes: 1_000 },
    });
    const url = await small.listen();
    onTestFinished(() => small.close());
    const send = async (path: string, bytes: number) => {
      const headers = { authorization: `Bearer ${ada.key}`, 'content-type': 'application/json' };
      const body = JSON.stringify('x'.repeat(bytes));
      return (await fetch(`${url}${path}`, { method: 'POST', headers, body })).status;
    };
    for (const path of ['/api/usage', '/api/trpc/keys.create']) {
      // Of one caller's, half of it may be coming.
      expect(await send(path, 600)).toBe(503);
      for (let sent = 0; sent < 4; sent++) expect(await send(path, 300)).toBe(400);
    }
  });

  it('a compressed body is refused before it is unpacked', async () => {
    const response = await fetch(`${server.url}/api/usage`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${ada.key}`,
        'content-type': 'application/json',
        'content-encoding': 'gzip',
      },
      body: gzipSync(Buffer.alloc(50_000_000)),
    });
    expect(response.status).toBe(415);
  });
});

describe('a body that nobody asked for', () => {
  const head = (method: string, path: string, key: string | null, type = 'application/json') =>
    `${method} ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: ${type}\r\n` +
    (key === null ? '' : `authorization: Bearer ${key}\r\n`);
  /** The body never comes: who reads it first would not answer. */
  const ask = (method: string, path: string, key: string | null, type?: string) =>
    raw(`${head(method, path, key, type)}content-length: 1000000\r\n\r\n`, /\r\n\r\n.*}/s);

  it.each([
    ['POST', '/api/trpc/keys.create', 'application/json', 401],
    ['POST', '/api/trpc/keys.create', 'multipart/form-data; boundary=b', 401],
    ['POST', '/api/trpc/keys.create,keys.revoke?batch=1', 'application/json', 401],
    ['DELETE', '/api/trpc/keys.create', 'text/plain', 405],
    ['POST', '/api/nothing', 'application/json', 404],
    ['PUT', '/api/usage', 'application/json', 405],
  ])('of a stranger is not read: %s %s, %s', async (method, path, type, status) => {
    for (const key of [null, `md_${'a'.repeat(43)}`]) {
      const answer = await ask(method, path, key, type);
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    }
  });

  it('is not read where its type has no limit here', async () => {
    const form = 'multipart/form-data; boundary=b';
    expect(await ask('POST', '/api/trpc/keys.create', ada.key, form)).toMatch(/^HTTP.1.1 415 /);
  });

  it('is read for a moment after the answer, and then the connection is closed', async () => {
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', () => {});
    const closed = once(socket, 'close');
    socket.write(`${head('POST', '/api/usage', null)}content-length: 1000000000\r\n\r\n`);
    const more = setInterval(() => void (socket.writable && socket.write('x'.repeat(1_000))), 10);
    onTestFinished(() => {
      clearInterval(more);
      socket.destroy();
    });
    await closed;
    const answer = Buffer.concat(chunks).toString();
    expect(answer).toMatch(/^HTTP\/1.1 401 .*connection: close.*"unauthorized"/is);
  });

  it('in the words of tRPC, for each call of a batch', async () => {
    const answer = await ask('POST', '/api/trpc/keys.create,keys.revoke?batch=1', null);
    expect(answer.match(/"ledgerCode":"unauthorized"/g)).toHaveLength(2);
    expect(answer).toMatch(/www-authenticate: Bearer/i);
  });
});

describe('a request to tRPC that is none', () => {
  it.each([
    ['HEAD', 'x', 405],
    ['GET', '[', 400],
    ['GET', 'two words', 400],
  ])('is no failure: %s, of the host %s', async (method, host, status) => {
    for (const key of ['', `authorization: Bearer ${ada.key}\r\n`]) {
      const line = `${method} /api/trpc/session.current HTTP/1.1\r\n`;
      const answer = await raw(`${line}host: ${host}\r\nconnection: close\r\n${key}\r\n`);
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    }
  });
});

describe('keys', () => {
  it('all that are not valid get one and the same answer', async () => {
    const { key } = ada;
    const guesses = [
      key.slice(0, -1),
      `${key}0`,
      key.toUpperCase(),
      `${key.slice(0, -1)}${key.endsWith('a') ? 'b' : 'a'}`,
      'x',
      'admin',
      key.slice(0, 12),
      "';drop/**/table/**/api_keys;--",
    ];
    const answers = [];
    for (const guess of guesses) {
      const { status, body } = await server.query('balance.current', undefined, guess);
      answers.push({ status, message: body.error?.message ?? body.error?.code });
    }
    expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect(answers[0]?.status).toBe(401);
  });

  it('are looked up by their hash, so that no comparison depends on a secret', async () => {
    const { rows } = await server.database.pool.query(
      'select to_jsonb(k) as row from api_keys as k',
    );
    const stored = JSON.stringify(rows);
    for (const { key } of [ada, eve]) {
      expect(stored).not.toContain(key);
      expect(stored).not.toContain(key.slice(-16));
    }
  });

  it('never appear in the log, whole or in part', async () => {
    await server.query('balance.current', undefined, ada.key);
    await server.get(`/api/trpc/balance.current?key=${eve.key}`, ada.key);
    await server.post('/api/usage', { events: [{ kilo_user_id: eve.key, cost: 1 }] }, ada.key);
    const log = server.logLines.join('');
    for (const { key } of [ada, eve]) expect(log).not.toContain(key);
  });
});

describe("another user's data", () => {
  const inputs = () => [
    undefined,
    { kiloUserId: ada.id },
    { kiloUserId: ada.id, from: '2026-01-01', until: '2026-12-31' },
    { from: '2026-01-01', until: '2026-12-31', organizationId: adasOrganization },
    { date: today(), kiloUserId: ada.id },
    { date: today(), organizationId: adasOrganization },
    { kiloUserId: ada.id, organizationId: adasOrganization },
  ];
  const today = () => new Date().toISOString().slice(0, 10);

  it.each(Object.keys(appRouter._def.procedures))('%s shows eve nothing of it', async (name) => {
    const isQuery = QUERIES.has(name);
    for (const input of inputs()) {
      const answer = isQuery
        ? await server.query(name, input, eve.key)
        : await server.post(`/api/trpc/${name}`, input ?? {}, eve.key);
      const text = JSON.stringify(answer.body);
      expect(text).not.toContain(MARKER);
      expect(text).not.toContain('1234567');
      expect(text).not.toContain('7654321');
      if (name.startsWith('operations.')) expect(answer.status).toBe(403);
    }
  });

  it.each([
    ['POST', '/api/users', { id: 'mallory' }],
    ['POST', '/api/organizations', { name: 'x' }],
    ['POST', '/api/keys', { kilo_user_id: 'x', scopes: ['admin'] }],
    ['POST', '/api/credits', { kilo_user_id: 'x', usd: 5 }],
  ])('%s %s is for admins', async (method, route, body) => {
    expect((await server.call(method, route, { body, key: eve.key })).status).toBe(403);
  });

  it('cannot be written to: neither their account nor their organization', async () => {
    const answer = await server.post(
      '/api/usage',
      {
        events: [
          { kilo_user_id: ada.id, cost: 1 },
          { kilo_user_id: eve.id, cost: 1, organization_id: adasOrganization },
          { kilo_user_id: ada.id.toUpperCase(), cost: 1 },
          { kilo_user_id: `${ada.id}\u0000`, cost: 1 },
          { kilo_user_id: [ada.id], cost: 1 },
        ],
      },
      eve.key,
    );
    for (const result of answer.body.results) expect(result.status).toBe('rejected');
  });
});

/** What the server says to these bytes, until it closes, or has said what is waited for. */
function raw(request: string, until?: RegExp): Promise<string> {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(Number(port), hostname, () => socket.write(request));
    socket.setEncoding('utf8');
    socket.on('data', (data) => {
      answer += data;
      if (until?.test(answer)) socket.destroy();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNRESET' || error.code === 'EPIPE') resolve(answer);
      else reject(error);
    });
    socket.on('close', () => resolve(answer));
  });
}
