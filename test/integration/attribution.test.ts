import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import type { UsageEvent } from '../../src/record/types.js';
import { runCommand } from './cliHarness.js';
import { ADMIN_KEY, startTestServer, type TestServer } from './serverHarness.js';

let service: TestServer;
beforeAll(async () => {
  service = await startTestServer();
});
afterAll(() => service?.stop());

async function stored(id: string) {
  const { rows } = await service.database.pool.query(
    `select u.api_key_id, u.project_id, m.end_user, m.session_id, m.tags
    from microdollar_usage as u
    left join microdollar_usage_metadata as m on m.id = u.id
    where u.id = $1`,
    [id],
  );
  return rows[0];
}

const ATTRIBUTED = {
  project_id: 'website',
  end_user: 'customer "7"',
  session_id: 'session {1}',
  tags: ['eu, west', 'blue', 'quote"d', 'blue', '\\'],
};
const STORED = { ...ATTRIBUTED, tags: ['\\', 'blue', 'eu, west', 'quote"d'] };

describe('in the library', () => {
  it('is stored, singly and in batches, beside events that have none', async () => {
    const user = await service.newUser();
    const event = (fields: Omit<Partial<UsageEvent>, 'id'>) => ({
      id: randomUUID(),
      kilo_user_id: user.id,
      cost: 5,
      ...fields,
    });
    const alone = event({ ...ATTRIBUTED, api_key_id: user.keyId });
    await service.ledger.recordUsage(alone);
    expect(await stored(alone.id)).toEqual({ ...STORED, api_key_id: user.keyId });
    const batch = [
      event({}),
      event(ATTRIBUTED),
      event({ metadata: { mode: 'x', tags: ['t'], session_id: 's' } }),
      event({ tags: [] }),
    ];
    await service.ledger.recordUsageBatch(batch);
    const rows = await Promise.all(batch.map(({ id }) => stored(id)));
    const none = {
      api_key_id: null,
      project_id: null,
      end_user: null,
      session_id: null,
      tags: null,
    };
    expect(rows).toEqual([
      none,
      { ...STORED, api_key_id: null },
      { ...none, tags: ['t'], session_id: 's' },
      none,
    ]);
  });

  it('is no part of what a replay must repeat', async () => {
    const user = await service.newUser();
    const event = { id: randomUUID(), kilo_user_id: user.id, cost: 5, tags: ['a'] };
    await service.ledger.recordUsage(event);
    const replay = { ...event, tags: ['b'], api_key_id: user.keyId, end_user: 'someone' };
    expect(await service.ledger.recordUsage(replay)).toMatchObject({ status: 'duplicate' });
    expect(await stored(event.id)).toMatchObject({ tags: ['a'], api_key_id: null });
  });

  it.each<[string, object, string]>([
    ['tags', { tags: Array.from({ length: 17 }, (_, i) => `t${i}`) }, 'at most 16 texts'],
    ['tags', { tags: 'a,b' }, 'must be an array of texts'],
    ['tags.1', { tags: ['a', 'x'.repeat(65)] }, 'at most 64 characters'],
    ['tags.0', { tags: [''] }, 'must not be empty'],
    ['end_user', { end_user: 'x'.repeat(257) }, 'at most 256 characters'],
    ['session_id', { session_id: '' }, 'must not be empty'],
    ['session_id', { session_id: 'a', metadata: { session_id: 'b' } }, 'give one of them'],
    ['api_key_id', { api_key_id: 'admin' }, 'must be a UUID'],
  ])('%s out of bounds is refused, named with what is allowed', async (field, fields, allowed) => {
    const user = await service.newUser();
    const recording = service.ledger.recordUsage({ kilo_user_id: user.id, cost: 1, ...fields });
    await expect(recording).rejects.toMatchObject({
      code: 'invalid_event',
      details: { field },
      message: expect.stringContaining(allowed),
    });
  });

  it('who asked is scrubbed with the user, what it was for is not', async () => {
    const user = await service.newUser();
    const event = { id: randomUUID(), kilo_user_id: user.id, cost: 5, ...ATTRIBUTED };
    await service.ledger.recordUsage({ ...event, api_key_id: user.keyId });
    await softDeleteUser(service.database.pool, user.id);
    expect(await stored(event.id)).toEqual({
      ...STORED,
      api_key_id: user.keyId,
      end_user: null,
      session_id: null,
    });
  });
});

describe('over HTTP', () => {
  const send = (event: object, key: string) => service.post('/api/usage', { events: [event] }, key);

  it('the key in use paid, unless a service key names another', async () => {
    const user = await service.newUser();
    const event = () => ({ id: randomUUID(), kilo_user_id: user.id, cost: 5 });
    const [own, byService, byAdmin] = [event(), event(), event()];
    await send(own, user.key);
    expect(await stored(own.id)).toMatchObject({ api_key_id: user.keyId });
    const service1 = await service.newServiceKey(['usage:write']);
    await send({ ...byService, api_key_id: user.keyId }, service1);
    expect(await stored(byService.id)).toMatchObject({ api_key_id: user.keyId });
    await send(byAdmin, ADMIN_KEY);
    expect(await stored(byAdmin.id)).toMatchObject({ api_key_id: null });
  });

  it('a user’s key cannot name another key', async () => {
    const [user, other] = [await service.newUser(), await service.newUser()];
    const event = { kilo_user_id: user.id, cost: 5, api_key_id: other.keyId };
    const { body } = await send(event, user.key);
    expect(body.results[0]).toMatchObject({
      status: 'rejected',
      error: { code: 'forbidden', details: { field: 'api_key_id' } },
    });
  });
});

it('goes out by export and comes back by import, as CSV and as JSONL', async () => {
  const user = await service.newUser();
  const created_at = '2020-05-05T10:00:00Z';
  const event = { kilo_user_id: user.id, cost: 5, created_at, ...ATTRIBUTED };
  await service.ledger.recordUsage({ ...event, api_key_id: user.keyId });
  const run = (...argv: string[]) => runCommand({ DATABASE_URL: service.database.url }, ...argv);
  const { mkdtemp, readFile, rm, writeFile } = await import('node:fs/promises');
  const dir = await mkdtemp(`${(await import('node:os')).tmpdir()}/microdollar-attribution-`);
  try {
    for (const format of ['csv', 'jsonl']) {
      const path = `${dir}/usage.${format}`;
      const days = ['--from', '2020-05-05', '--until', '2020-05-05', '--user', user.id];
      await run('export', ...days, '--format', format, '--no-total', '--out', path);
      const id = randomUUID();
      const text = await readFile(path, 'utf8');
      await writeFile(path, text.replace(/[0-9a-f-]{36}/, id));
      const imported = await run('import', path, '--format', format);
      expect(imported, imported.stdout + imported.stderr).toMatchObject({ status: 0 });
      expect(await stored(id)).toEqual({ ...STORED, api_key_id: user.keyId });
      await service.database.pool.query('delete from microdollar_usage where id = $1', [id]);
    }
  } finally {
    await rm(dir, { recursive: true });
  }
});
