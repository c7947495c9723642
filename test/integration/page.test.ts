import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PAGE_ROUTES, pagePlugin } from '../../src/server/page.js';
import { type Asked, statementsDuring } from '../support/statementsDuring.js';
import { startTestServer, type TestServer } from './serverHarness.js';

const INDEX = `<!doctype html><meta property="csp-nonce" nonce="__CSP_NONCE__"><div id="root"></div>`;
const SCRIPT = `console.log(${JSON.stringify('x'.repeat(5_000))});`;

let service: TestServer;
let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'microdollar-built-page-'));
  await mkdir(join(directory, 'assets'));
  await writeFile(join(directory, 'index.html'), INDEX);
  await writeFile(join(directory, 'favicon.svg'), '<svg/>');
  await writeFile(join(directory, 'assets', 'index-abc123.js'), SCRIPT);
  service = await startTestServer({ plugins: [pagePlugin({ directory })] });
});
afterAll(async () => {
  await service?.stop();
  await rm(directory, { recursive: true, force: true });
});

const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
  fetch(`${service.url}${path}`, { method, headers });

describe('the page', () => {
  it('is served on its own routes with a strict policy and a nonce of its own each time', async () => {
    const nonces = new Set<string>();
    for (const route of PAGE_ROUTES) {
      const response = await get(`${route}?user=ada`);
      expect(response.status).toBe(200);
      const policy = response.headers.get('content-security-policy') ?? '';
      const nonce = /'nonce-([^']+)'/.exec(policy)?.[1] ?? '';
      expect(policy).toBe(
        `default-src 'none'; script-src 'self'; style-src 'self' 'nonce-${nonce}'; ` +
          `img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; ` +
          `frame-ancestors 'none'`,
      );
      expect(await response.text()).toContain(`nonce="${nonce}"`);
      expect(response.headers.get('x-content-type-options')).toBe('nosniff');
      expect(response.headers.get('cache-control')).toBe('no-store');
      nonces.add(nonce);
    }
    expect(nonces.size).toBe(PAGE_ROUTES.length);
  });

  it('does not stand in for paths that are not its own', async () => {
    for (const path of [
      '/nothing',
      '/index.html',
      '/profile/deeper',
      '/api/nothing',
      '/v1/nothing',
      '/assets/none.js',
      '/assets/%2e%2e/index.html',
      '/..%2fpackage.json',
      '/assets/..%5c..%5cpackage.json',
    ]) {
      const response = await get(path);
      expect([path, response.status]).toEqual([path, 404]);
      expect(((await response.json()) as { error: { code: string } }).error.code).toBe('not_found');
    }
    expect((await get('/', {}, 'POST')).status).toBe(405);
    expect((await get('/', {}, 'HEAD')).status).toBe(200);
  });

  it('answers a browser that looks for a page with its own 404, and a slash too much with the view', async () => {
    const accept = 'text/html,application/xhtml+xml';
    for (const path of ['/nothing', '/profile/deeper']) {
      const response = await get(path, { accept });
      expect([path, response.status]).toEqual([path, 404]);
      expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(await response.text()).toContain('id="root"');
    }
    for (const path of ['/profile/', '/operations/?day=2026-11-22']) {
      expect([path, (await get(path, { accept })).status]).toEqual([path, 200]);
    }
    for (const path of ['/api/nothing', '/api', '/v1/nothing', '/assets/none.js']) {
      const response = await get(path, { accept });
      expect([path, response.headers.get('content-type')]).toEqual([
        path,
        'application/json; charset=utf-8',
      ]);
    }
    expect((await get('/api/usage', { accept })).status).toBe(405);
  });

  it('serves files from memory: compressed, immutable by name, not sent twice', async () => {
    const path = '/assets/index-abc123.js';
    const response = await get(path, { 'accept-encoding': 'gzip' });
    expect(response.headers.get('content-encoding')).toBe('gzip');
    expect(response.headers.get('content-type')).toBe('text/javascript; charset=utf-8');
    expect(response.headers.get('cache-control')).toBe('public, max-age=31536000, immutable');
    expect(await response.text()).toBe(SCRIPT);
    const plain = await get(path, { 'accept-encoding': 'identity' });
    expect(plain.headers.get('content-encoding')).toBeNull();
    for (const refused of ['gzip;q=0', 'br, gzip; q=0.00, *;q=0.1', '']) {
      const answer = await get(path, { 'accept-encoding': refused });
      expect([refused, answer.headers.get('content-encoding')]).toEqual([refused, null]);
      expect(await answer.text()).toBe(SCRIPT);
    }
    for (const taken of ['gzip;q=0.5', 'br, GZIP']) {
      const answer = await get(path, { 'accept-encoding': taken });
      expect([taken, answer.headers.get('content-encoding')]).toEqual([taken, 'gzip']);
    }
    // A name for each form.
    const etags = [response, plain].map(({ headers }) => headers.get('etag') ?? '');
    expect(new Set(etags).size).toBe(2);
    for (const [index, form] of ['gzip', 'identity'].entries()) {
      const asked = { 'accept-encoding': form };
      for (const [other, etag] of etags.entries()) {
        const { status } = await get(path, { ...asked, 'if-none-match': etag });
        expect([form, etag, status]).toEqual([form, etag, other === index ? 304 : 200]);
      }
    }
    const icon = await get('/favicon.svg');
    expect(icon.headers.get('cache-control')).toBe('no-cache');
    expect(icon.headers.get('content-type')).toBe('image/svg+xml');
  });

  it('says how to build it when it is not built', async () => {
    const bare = await startTestServer({
      plugins: [pagePlugin({ directory: join(directory, 'none') })],
    });
    const response = await fetch(`${bare.url}/`);
    expect(response.status).toBe(503);
    expect(await response.text()).toContain('npm run build');
    await bare.stop();
  });
});

describe('session.current', () => {
  it('tells whom a key acts for, whatever its scopes', async () => {
    const user = await service.newUser(['gateway']);
    const answer = await service.query('session.current', undefined, user.key);
    expect(answer.body.result.data).toMatchObject({
      keyId: user.keyId,
      kiloUserId: user.id,
      scopes: ['gateway'],
      tiersUsd: [],
    });
    expect((await service.query('session.current', undefined, 'wrong')).status).toBe(401);
    expect((await service.query('session.current', undefined, null)).status).toBe(401);
  });
});

describe('profile.account', () => {
  it('answers as balance.current and usage.recent do, of the own user alone', async () => {
    const user = await service.newUser();
    const other = await service.newUser();
    const organization = await service.newOrganization(user.id);
    await service.ledger.recordUsage({ kilo_user_id: user.id, cost: 1_234_567, model: 'a' });
    await service.ledger.recordUsage({
      kilo_user_id: user.id,
      organization_id: organization,
      cost: -5,
    });
    const account = await service.query('profile.account', undefined, user.key);
    const balance = await service.query('balance.current', undefined, user.key);
    const recent = await service.query('usage.recent', undefined, user.key);
    expect(account.body.result.data).toEqual({
      kiloUserId: user.id,
      balance: balance.body.result.data,
      recent: recent.body.result.data,
    });
    const refused = await service.query('profile.account', { kiloUserId: user.id }, other.key);
    expect(refused.status).toBe(403);
    const unknown = await service.query('profile.account', { kiloUserId: 'nobody' });
    expect([unknown.status, unknown.body.error.data.ledgerCode]).toEqual([404, 'unknown_user']);
  });
});

describe('opening a profile', () => {
  const RAW_ROWS = 5_000;

  it('asks the database at most four queries, none over the raw usage of the window', async () => {
    const user = await service.newUser(['usage:read']);
    await service.ledger.recordUsageBatch(
      Array.from({ length: RAW_ROWS }, (_, index) => ({
        id: randomUUID(),
        kilo_user_id: user.id,
        cost: 1_000 + index,
        created_at: new Date(Date.now() - index * 1_000_000).toISOString(),
      })),
    );
    await service.ledger.fold();
    // As autovacuum does after so many rows.
    await service.ledger.pool.query('analyze microdollar_usage');
    const asked = await statementsDuring(service.ledger.pool, async () => {
      await openProfile(user.key, user.id);
    });
    // The key's look-up, the account, and the report with its proof.
    const names = asked.map(({ text }) => /\/\* (.+?) \*\//.exec(text)?.[1] ?? text);
    expect(names.length).toBeLessThanOrEqual(4);
    expect(names.filter((name) => !name.startsWith('usage.report')).sort()).toEqual([
      'accounts.authenticateApiKey',
      'profile.account',
    ]);
    let rawRows = 0;
    for (const statement of asked) rawRows += await rawRowsRead(service.ledger.pool, statement);
    expect(rawRows).toBeGreaterThan(0);
    // The proof looks whether a day has any, of this range and of the one before.
    expect(rawRows).toBeLessThanOrEqual(130);
  });

  it('has a detector that sees a scan', async () => {
    const read = await rawRowsRead(service.ledger.pool, {
      text: 'select sum(cost) from microdollar_usage',
      values: [],
    });
    expect(read).toBeGreaterThanOrEqual(RAW_ROWS);
  });

  /** What the page asks at once when it is opened; test/e2e holds the page to it. */
  async function openProfile(key: string, kiloUserId: string): Promise<void> {
    const until = new Date().toISOString().slice(0, 10);
    const from = new Date(Date.now() - 30 * 86_400_000).toISOString().slice(0, 10);
    const report = { from, until, grain: 'day', zone: 'UTC', by: ['model'], metric: 'cost' };
    const [account, answer] = await Promise.all([
      service.query('profile.account', { limit: 1 }, key),
      service.query(
        'usage.report',
        { ...report, top: 10, compare: true, kilo_user_id: kiloUserId },
        key,
      ),
    ]);
    expect([account.status, answer.status]).toEqual([200, 200]);
    expect(answer.headers.get('x-microdollar-source')).toMatch(/^rollup;/);
  }
});

interface Plan {
  'Node Type': string;
  'Relation Name'?: string;
  'Actual Rows': number;
  'Actual Loops': number;
  'Rows Removed by Filter'?: number;
  Plans?: Plan[];
}

/** Rows of `microdollar_usage` that a statement reads, from its executed plan. */
async function rawRowsRead(pool: pg.Pool, { text, values }: Asked): Promise<number> {
  const { rows } = await pool.query(`explain (analyze, format json) ${text}`, values);
  const count = (plan: Plan): number => {
    const own =
      plan['Relation Name'] === 'microdollar_usage'
        ? (plan['Actual Rows'] + (plan['Rows Removed by Filter'] ?? 0)) * plan['Actual Loops']
        : 0;
    return own + (plan.Plans ?? []).reduce((sum, part) => sum + count(part), 0);
  };
  return count(rows[0]['QUERY PLAN'][0].Plan);
}
