import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createServer } from '../../src/server/index.js';
import { urlThrough } from '../support/socketUrl.js';
import { startTestServer, type TestServer } from './serverHarness.js';

describe('probes, metrics and what every answer carries', () => {
  let service: TestServer;
  beforeAll(async () => {
    service = await startTestServer({
      plugins: [
        (app, services) => {
          app.get('/', (_request, reply) =>
            reply
              .type('text/html')
              .header('content-security-policy', "default-src 'self'")
              .send('<p>page'),
          );
          app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) =>
            done(null, body),
          );
          app.post(
            '/v1/echo',
            {
              onRequest: services.requireScope('gateway', { apiKeyHeader: true }),
              bodyLimit: 8 * 1024 * 1024,
            },
            async (request) => ({ bytes: String(request.body).length, key: request.principal }),
          );
          app.get('/fails', async () => {
            throw new Error('a secret of the inside');
          });
        },
      ],
    });
  });
  afterAll(() => service?.stop());

  it('is alive and ready without a key', async () => {
    const health = await service.get('/healthz', null);
    expect([health.status, health.body]).toEqual([200, { status: 'ok' }]);
    // Longer than Google's load balancer keeps an idle connection.
    expect(health.headers.get('keep-alive')).toBe('timeout=620');
    const ready = await service.get('/readyz', null);
    expect([ready.status, ready.body]).toEqual([200, { status: 'ready' }]);
  });

  it('exposes the ledger, this server and the process to Prometheus', async () => {
    const user = await service.newUser();
    const event = { kilo_user_id: user.id, cost: 1 };
    await service.post('/api/usage', { events: [event, { ...event, cost: 0.5 }] });
    // Its own sweep may have held the payer's row.
    await expect
      .poll(async () => (await service.get('/metrics', null)).body)
      .toContain('microdollar_pending_rows 0\n');
    const { status, headers, body } = await service.get('/metrics', null);
    expect(status).toBe(200);
    expect(headers.get('content-type')).toMatch(/^text\/plain; version=/);
    for (const line of [
      'microdollar_events_total{kind="usage",outcome="recorded"} 1',
      'microdollar_events_total{kind="usage",outcome="rejected"} 1',
      'microdollar_http_request_duration_seconds_count{method="POST",route="/api/usage",status="200"} 1',
    ]) {
      expect(body).toContain(`${line}\n`);
    }
    expect(body).toContain('process_resident_memory_bytes');
  });

  it('answers unknown paths with 404, wrong methods with 405 and what is allowed', async () => {
    const missing = await service.get('/api/nothing');
    expect([missing.status, missing.body.error.code]).toEqual([404, 'not_found']);
    const wrong = await service.get('/api/usage');
    expect([wrong.status, wrong.body.error.code]).toEqual([405, 'invalid_request']);
    expect(wrong.headers.get('allow')).toBe('POST');
    const keys = await service.call('PUT', '/api/keys');
    expect(keys.headers.get('allow')?.split(', ').sort()).toEqual(['GET', 'HEAD', 'POST']);
    // Never that a path allows what it has just refused.
    const slash = await service.post('/api/usage/', { events: [] });
    expect([slash.status, slash.body.error.code, slash.headers.get('allow')]).toEqual([
      404,
      'not_found',
      null,
    ]);
    expect(slash.body.error.message).toMatch(
      /nothing at POST .api.usage.; leave out the slash at its end/,
    );
    expect((await service.get('/api/usage/')).headers.get('allow')).toBe('POST');
    const bad = await service.get('/%zz');
    expect([bad.status, bad.body.error.code]).toEqual([400, 'invalid_request']);
  });

  it('sends security headers with every answer, and a page keeps its own', async () => {
    for (const path of ['/healthz', '/api/nothing', '/api/trpc/usage.recent', '/metrics']) {
      const { headers } = await service.get(path);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('content-security-policy')).toContain("default-src 'none'");
    }
    const page = await service.get('/', null);
    expect(page.body).toBe('<p>page');
    expect(page.headers.get('content-security-policy')).toBe("default-src 'self'");
    expect(page.headers.get('x-content-type-options')).toBe('nosniff');
  });

  it('keeps a plain request id and replaces any other', async () => {
    const plain = await service.call('GET', '/healthz', { headers: { 'x-request-id': 'abc-1' } });
    expect(plain.headers.get('x-request-id')).toBe('abc-1');
    const odd = await service.call('GET', '/healthz', { headers: { 'x-request-id': '"}{' } });
    expect(odd.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('gives mounted routes their own parsers, limits and key header', async () => {
    const key = await service.newServiceKey(['gateway']);
    const answer = await service.call('POST', '/v1/echo', {
      key: null,
      body: 'x'.repeat(5 * 1024 * 1024),
      headers: { 'x-api-key': key, 'content-type': 'text/plain' },
    });
    expect(answer.body.bytes).toBe(5 * 1024 * 1024);
    const denied = await service.call('POST', '/v1/echo', { key: null, body: 'x' });
    expect(denied.status).toBe(401);
    const elsewhere = await service.call('POST', '/api/usage', {
      key: null,
      body: { events: [{}] },
      headers: { 'x-api-key': key },
    });
    expect(elsewhere.status).toBe(401);
  });

  it('tells an unexpected failure to the log alone', async () => {
    const answer = await service.get('/fails');
    expect([answer.status, answer.body.error.code]).toEqual([500, 'internal']);
    expect(JSON.stringify(answer.body)).not.toContain('secret of the inside');
    expect(service.logLines.join('')).toContain('secret of the inside');
  });

  it('answers what is not HTTP, in JSON', async () => {
    const { port } = service.server.app.server.address() as AddressInfo;
    const socket = net.connect(port, '127.0.0.1');
    socket.write('NONSENSE\r\n\r\n');
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    await once(socket, 'close');
    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(text).toContain('"code":"invalid_request"');
  });

  it('says which address is taken', async () => {
    const { port } = service.server.app.server.address() as AddressInfo;
    const second = createServer({ ledger: service.ledger, port, logLevel: 'silent' });
    await expect(second.listen()).rejects.toMatchObject({ code: 'EADDRINUSE' });
    await second.close();
  });
});

describe('a database that goes away', () => {
  let link: Link | null = null;
  let service: TestServer | null = null;
  afterEach(async () => {
    await link?.restore();
    await service?.stop();
    await link?.close();
    link = service = null;
  });

  it('turns readiness red, answers 503 with a remedy, and comes back by itself', async () => {
    link = await openLink();
    service = await startTestServer({ limits: { readinessTimeoutMs: 300 } }, link.through);
    const running = service;
    const user = await running.newUser();
    const event = { kilo_user_id: user.id, cost: 1 };
    expect((await running.post('/api/usage', { events: [event] })).status).toBe(200);

    await link.cut();
    await expect.poll(async () => (await running.get('/readyz', null)).status).toBe(503);
    const red = await running.get('/readyz', null);
    expect(red.body.error).toMatchObject({ code: 'unavailable', details: { retryable: true } });
    expect((await running.get('/healthz', null)).status).toBe(200);
    expect((await running.get('/metrics', null)).status).toBe(200);

    const refused = await running.post('/api/usage', { events: [event, event] });
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('1');
    expect(refused.body.error).toMatchObject({
      code: 'unavailable',
      details: { retryable: true, event_ids: [expect.any(String), expect.any(String)] },
    });
    const [id] = refused.body.error.details.event_ids;
    const invalid = { ...event, cost: 0.5 };
    expect((await running.post('/api/usage', { events: [invalid] })).status).toBe(200);
    const read = await running.query('usage.recent', { kiloUserId: user.id });
    expect([read.status, read.body.error.data.ledgerCode]).toEqual([503, 'unavailable']);
    expect(read.headers.get('retry-after')).toBe('1');
    const status = await running.query('operations.status');
    expect(status.body.result.data.database.isReachable).toBe(false);

    await link.restore();
    await expect.poll(async () => (await running.get('/readyz', null)).status).toBe(200);
    const again = await running.post('/api/usage', { events: [{ ...event, id }] });
    expect(again.body.results[0]).toMatchObject({ id, new_microdollars_used: 2 });
  });

  it('turns readiness red also when the database is silent', async () => {
    link = await openLink();
    service = await startTestServer({ limits: { readinessTimeoutMs: 200 } }, link.through);
    const running = service;
    link.freeze();
    await expect
      .poll(async () => (await running.get('/readyz', null)).body.error?.message)
      .toMatch(/no answer within 200 ms/);
    await link.restore();
    await expect.poll(async () => (await running.get('/readyz', null)).status).toBe(200);
  });
});

describe('shutdown and slow clients', () => {
  it('finishes what is in flight, says it is going, and refuses new connections', async () => {
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    let isInFlight = () => {};
    const inFlight = new Promise<void>((resolve) => {
      isInFlight = resolve;
    });
    const service = await startTestServer({
      plugins: [
        (app) => {
          app.get('/slow', async () => {
            isInFlight();
            await gate;
            return { finished: true };
          });
        },
      ],
    });
    const slow = service.get('/slow', null);
    await inFlight;
    const closed = service.server.close();
    await expect.poll(() => service.get('/healthz', null).catch(() => 'refused')).toBe('refused');
    release();
    const answer = await slow;
    expect(answer.body).toEqual({ finished: true });
    expect(answer.headers.get('connection')).toBe('close');
    await closed;
    await service.stop();
  });

  it('cuts what does not finish in time', async () => {
    let isInFlight = () => {};
    const inFlight = new Promise<void>((resolve) => {
      isInFlight = resolve;
    });
    const service = await startTestServer({
      limits: { shutdownTimeoutMs: 100 },
      plugins: [
        (app) => {
          app.get('/never', () => {
            isInFlight();
            return new Promise(() => {});
          });
        },
      ],
    });
    const never = service.get('/never', null).catch((error: Error) => error);
    await inFlight;
    await service.server.close();
    expect(await never).toBeInstanceOf(Error);
    await service.stop();
  });

  it('does not wait for connections that never sent a whole request', async () => {
    // Its time limits are longer than the test may take.
    const service = await startTestServer({
      limits: { shutdownTimeoutMs: 600_000, headersTimeoutMs: 240_000 },
    });
    const { port } = service.server.app.server.address() as AddressInfo;
    const begun = ['', 'POST /api/usage HT', 'POST /api/usage HTTP/1.1\r\nHost: x\r\n'];
    const sockets = await Promise.all(
      begun.map(async (bytes) => {
        const socket = net.connect(port, '127.0.0.1');
        await once(socket, 'connect');
        socket.write(bytes);
        return { socket, closed: once(socket, 'close') };
      }),
    );
    // Kept alive after an answer.
    await service.get('/healthz', null);
    for (const { socket } of sockets) socket.on('error', () => {});
    await service.server.close();
    await Promise.all(sockets.map(({ closed }) => closed));
    await service.stop();
  });

  it('makes room for who comes where all places are taken by idle connections', async () => {
    const service = await startTestServer({ limits: { connections: 4 } });
    const { port } = service.server.app.server.address() as AddressInfo;
    /** One request on a connection that is kept; the status, or null where it was not taken. */
    const ask = async () => {
      const socket = net.connect(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
      const first = await Promise.race([
        once(socket, 'data').then(([data]) => String(data).slice(9, 12)),
        once(socket, 'close').then(() => null),
      ]);
      return { socket, first };
    };
    const asked: Awaited<ReturnType<typeof ask>>[] = [];
    for (let count = 0; count < 10; count++) asked.push(await ask());
    expect(asked.map(({ first }) => first)).toEqual(Array(10).fill('200'));
    // Who was idle the longest went, not who came last.
    await expect
      .poll(() => asked.map(({ socket }) => socket.destroyed))
      .toEqual([...Array(7).fill(true), false, false, false]);
    for (const { socket } of asked) socket.destroy();
    await service.stop();
  });

  it('has the system look after connections on which nothing is said for long', async () => {
    const service = await startTestServer();
    expect(service.server.app.server).toMatchObject({ keepAlive: true });
    await service.stop();
  });

  it('does not wait for headers for ever', async () => {
    const service = await startTestServer({ limits: { headersTimeoutMs: 200 } });
    const { port } = service.server.app.server.address() as AddressInfo;
    const socket = net.connect(port, '127.0.0.1');
    socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n');
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    await once(socket, 'close');
    expect(text).toMatch(/^HTTP\/1\.1 408 /);
    await service.stop();
  });
});

interface Link {
  /** The same database, over this link. */
  through(url: string): string;
  /** Connections break, new ones are refused. */
  cut(): Promise<void>;
  /** Connections stay, nothing passes. */
  freeze(): void;
  restore(): Promise<void>;
  close(): Promise<void>;
}

/** A TCP relay before the database, so that its loss can be played without touching it. */
async function openLink(): Promise<Link> {
  let target = { host: '', port: 0 };
  let isFrozen = false;
  const sockets = new Set<net.Socket>();
  const relay = net.createServer((client) => {
    const upstream = net.connect(target.port, target.host);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('error', () => {});
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on('data', (chunk) => void to.write(chunk));
      if (isFrozen) from.pause();
    }
  });
  const listen = async (port: number) => {
    relay.listen(port, '127.0.0.1');
    await once(relay, 'listening');
  };
  await listen(0);
  const { port } = relay.address() as AddressInfo;
  const cut = async () => {
    for (const socket of sockets) socket.destroy();
    if (relay.listening) await new Promise((resolve) => relay.close(resolve));
  };
  return {
    through(url) {
      const server = new URL(url);
      target = { host: server.hostname, port: Number(server.port) };
      return urlThrough(url, port);
    },
    cut,
    freeze() {
      isFrozen = true;
      for (const socket of sockets) socket.pause();
    },
    async restore() {
      isFrozen = false;
      for (const socket of sockets) socket.resume();
      if (!relay.listening) await listen(port);
    },
    close: cut,
  };
}
