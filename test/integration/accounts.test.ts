import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { adjustUsage } from '../../src/accounts/adjust.js';
import { createApiKey, listApiKeys, revokeApiKey } from '../../src/accounts/apiKeys.js';
import { authenticateApiKey } from '../../src/accounts/authenticate.js';
import { addCredit } from '../../src/accounts/credits.js';
import { isOrganizationMember, removeOrganizationMember } from '../../src/accounts/memberships.js';
import { addOrganizationMember, createOrganization } from '../../src/accounts/organizations.js';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { createUser } from '../../src/accounts/users.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

let database: TestDatabase;
let ledger: Ledger;

beforeAll(async () => {
  database = await createTestDatabase();
  ledger = await createLedger({ databaseUrl: database.url, poolSize: 4 });
});
afterAll(async () => {
  await ledger?.close();
  await database?.drop();
});

const newId = () => `user-${randomUUID()}`;
const code = (expected: string) => expect.objectContaining({ code: expected });

/** The database's pool, of which the first statement with this label is answered when it is told to. */
function holdAnswer(label: string) {
  let release = () => {};
  let tell = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const held = new Promise<void>((resolve) => {
    tell = resolve;
  });
  let isFirst = true;
  const query = async (text: string, values: unknown[]) => {
    const result = await database.pool.query(text, values);
    if (isFirst && text.includes(label)) {
      isFirst = false;
      tell();
      await released;
    }
    return result;
  };
  return { pool: { query } as unknown as pg.Pool, held, release };
}

/** The database's pool, of which the first commit is done, and its answer lost with the connection. */
function losingFirstCommit(): pg.Pool {
  let isFirst = true;
  const connect = async () => {
    const client = await database.pool.connect();
    const query = async (text: string, values?: unknown[]) => {
      const result = await client.query(text, values);
      if (text !== 'commit' || !isFirst) return result;
      isFirst = false;
      throw new Error('Connection terminated unexpectedly');
    };
    return Object.assign(Object.create(client), { query, release: () => client.release(true) });
  };
  const query = (text: string, values: unknown[]) => database.pool.query(text, values);
  return { connect, query } as unknown as pg.Pool;
}

describe('users and organizations', () => {
  it('answers with the row, and refuses a second one of the same id', async () => {
    const id = newId();
    const user = await createUser(database.pool, { id, email: 'a@example.org' });
    expect(user).toMatchObject({ id, email: 'a@example.org', name: null, microdollars_used: 0 });
    await expect(createUser(database.pool, { id })).rejects.toEqual(code('already_exists'));
    const organization = await createOrganization(database.pool, { name: 'Acme' });
    expect(organization).toMatchObject({ name: 'Acme', total_microdollars_acquired: 0 });
    await expect(
      createOrganization(database.pool, { name: 'Acme', id: organization.id }),
    ).rejects.toEqual(code('already_exists'));
  });

  it('refuses user ids that are empty, too long or hold a NUL byte', async () => {
    for (const id of ['', 'x'.repeat(257), 'a\0b', 'a\ud800']) {
      await expect(createUser(database.pool, { id })).rejects.toEqual(code('invalid_request'));
    }
    await createUser(database.pool, { id: 'x'.repeat(256) });
  });

  it('adds a member once, known at once; unknown parties are named', async () => {
    const { id: user } = await createUser(database.pool, { id: newId() });
    const { id: organization } = await createOrganization(database.pool, { name: 'Acme' });
    expect(await isOrganizationMember(database.pool, organization, user)).toBe(false);
    expect(await addOrganizationMember(database.pool, organization, user)).toEqual({
      organization_id: organization,
      kilo_user_id: user,
      role: 'member',
    });
    expect(await isOrganizationMember(database.pool, organization, user)).toBe(true);
    const add = (organizationId: string, userId: string) =>
      addOrganizationMember(database.pool, organizationId, userId);
    await expect(add(organization, user)).rejects.toEqual(code('already_exists'));
    await expect(add(organization, newId())).rejects.toEqual(code('unknown_user'));
    await expect(add(randomUUID(), user)).rejects.toEqual(code('unknown_organization'));
    await expect(add('acme', user)).rejects.toEqual(code('invalid_request'));
  });
});

describe('API keys', () => {
  it('stores the hash alone, and authenticates by the key', async () => {
    const { id: user } = await createUser(database.pool, { id: newId() });
    const created = await createApiKey(database.pool, {
      kilo_user_id: user,
      scopes: ['usage:read', 'usage:write', 'usage:read'],
    });
    expect(created.key).toMatch(/^md_[A-Za-z0-9_-]{43}$/);
    expect(created.scopes).toEqual(['usage:write', 'usage:read']);
    const stored = await database.pool.query('select * from api_keys where id = $1', [created.id]);
    expect(JSON.stringify(stored.rows)).not.toContain(created.key);
    expect(stored.rows[0].key_hash).toMatch(/^[0-9a-f]{64}$/);
    expect(await authenticateApiKey(database.pool, created.key)).toEqual({
      id: created.id,
      kilo_user_id: user,
      organization_id: null,
      scopes: ['usage:write', 'usage:read'],
      has_budgets: false,
    });
    const listed = await listApiKeys(database.pool);
    expect(JSON.stringify(listed)).not.toContain(created.key);
    expect(listed.map((key) => key.id)).toContain(created.id);
  });

  it('stops a revoked key at once here, and shortly in a process that has it cached', async () => {
    const created = await createApiKey(database.pool, { scopes: ['usage:read'] });
    expect(await authenticateApiKey(database.pool, created.key)).not.toBeNull();
    expect(await authenticateApiKey(ledger.pool, created.key)).not.toBeNull();
    expect((await revokeApiKey(database.pool, created.id)).revoked_at).not.toBeNull();
    expect(await authenticateApiKey(database.pool, created.key)).toBeNull();
    await expect
      .poll(() => authenticateApiKey(ledger.pool, created.key), { timeout: 5_000 })
      .toBeNull();
    await revokeApiKey(database.pool, created.id);
    await expect(revokeApiKey(database.pool, randomUUID())).rejects.toEqual(code('not_found'));
  });

  it('keeps no answer of a look that began before a revocation here', async () => {
    const { pool, held, release } = holdAnswer('accounts.authenticateApiKey');
    const { id, key } = await createApiKey(pool, { scopes: ['usage:read'] });
    const before = authenticateApiKey(pool, key);
    await held;
    await revokeApiKey(pool, id);
    const after = authenticateApiKey(pool, key);
    release();
    expect(await before).not.toBeNull();
    expect(await after).toBeNull();
    expect(await authenticateApiKey(pool, key)).toBeNull();
  });

  it('keeps no answer of a look that began before a member was removed here', async () => {
    const { pool, held, release } = holdAnswer('accounts.findMemberships');
    const { id: user } = await createUser(pool, { id: newId() });
    const { id: organization } = await createOrganization(pool, { name: 'Acme' });
    await addOrganizationMember(pool, organization, user);
    const before = isOrganizationMember(pool, organization, user);
    await held;
    await removeOrganizationMember(pool, organization, user);
    release();
    expect(await before).toBe(true);
    expect(await isOrganizationMember(pool, organization, user)).toBe(false);
  });

  it('knows no key of a deleted user, of a wrong form, or never made', async () => {
    const { id: user } = await createUser(database.pool, { id: newId() });
    const created = await createApiKey(database.pool, {
      kilo_user_id: user,
      scopes: ['usage:read'],
    });
    await softDeleteUser(database.pool, user);
    expect(await authenticateApiKey(database.pool, created.key)).toBeNull();
    expect(await authenticateApiKey(database.pool, 'nonsense')).toBeNull();
    expect(await authenticateApiKey(database.pool, `md_${'A'.repeat(43)}`)).toBeNull();
    await expect(
      createApiKey(database.pool, { kilo_user_id: user, scopes: ['usage:read'] }),
    ).rejects.toEqual(code('unknown_user'));
  });

  it('refuses unknown scopes naming the allowed, and organizations the user is not in', async () => {
    await expect(createApiKey(database.pool, { scopes: ['root'] })).rejects.toThrow(
      /allowed: admin, usage:write, usage:read, gateway/,
    );
    await expect(createApiKey(database.pool, { scopes: [] })).rejects.toEqual(
      code('invalid_request'),
    );
    const { id: user } = await createUser(database.pool, { id: newId() });
    const { id: organization } = await createOrganization(database.pool, { name: 'Acme' });
    const wanted = { kilo_user_id: user, organization_id: organization, scopes: ['gateway'] };
    await expect(createApiKey(database.pool, wanted)).rejects.toEqual(code('forbidden'));
    await addOrganizationMember(database.pool, organization, user);
    expect(await createApiKey(database.pool, wanted)).toMatchObject({
      organization_id: organization,
    });
    await expect(
      createApiKey(database.pool, { ...wanted, organization_id: randomUUID() }),
    ).rejects.toEqual(code('unknown_organization'));
    await expect(
      createApiKey(database.pool, { organization_id: organization, scopes: ['admin'] }),
    ).rejects.toEqual(code('invalid_request'));
  });
});

describe('credits', () => {
  it('moves the total and writes its source in one statement', async () => {
    const { id: user } = await createUser(database.pool, { id: newId() });
    const { id: organization } = await createOrganization(database.pool, { name: 'Acme' });
    const first = await addCredit(database.pool, { kilo_user_id: user, usd: '0.1234565' });
    expect(first).toMatchObject({ amount_microdollars: 123457, kilo_user_id: user });
    const second = await addCredit(database.pool, { kilo_user_id: user, usd: 5 });
    expect(second.total_microdollars_acquired).toBe(5_123_457);
    const third = await addCredit(database.pool, { organization_id: organization, usd: -2 });
    expect(third.total_microdollars_acquired).toBe(-2_000_000);
    const sums = await database.pool.query(
      `select sum(amount_microdollars)::text as sum from credit_transactions
       where kilo_user_id = $1`,
      [user],
    );
    expect(sums.rows[0].sum).toBe('5123457');
  });

  it.each([
    ['with an id', randomUUID()],
    ['without one', undefined],
  ])('adds a credit once whose commit had no answer, %s', async (_, id) => {
    const { id: user } = await createUser(database.pool, { id: newId() });
    const credit = { id, kilo_user_id: user, usd: 1 };
    expect(await addCredit(losingFirstCommit(), credit)).toMatchObject({
      status: id === undefined ? 'recorded' : 'duplicate',
      amount_microdollars: 1_000_000,
      total_microdollars_acquired: 1_000_000,
    });
    const unknown = { kilo_user_id: newId(), usd: 1 };
    await expect(addCredit(losingFirstCommit(), unknown)).rejects.toEqual(code('unknown_user'));
  });

  it('applies a credit with an id once, however often it is sent', async () => {
    const { id: user } = await createUser(database.pool, { id: newId() });
    const credit = { id: randomUUID(), kilo_user_id: user, usd: 1 };
    await addCredit(database.pool, credit);
    const again = await Promise.all([1, 2, 3].map(() => addCredit(database.pool, credit)));
    expect(again.map(({ status }) => status)).toEqual(['duplicate', 'duplicate', 'duplicate']);
    expect(again[0]).toMatchObject({ id: credit.id, total_microdollars_acquired: 1_000_000 });
    const { id: other } = await createUser(database.pool, { id: newId() });
    for (const change of [{ usd: 2 }, { kilo_user_id: other }]) {
      await expect(addCredit(database.pool, { ...credit, ...change })).rejects.toEqual(
        code('idempotency_conflict'),
      );
    }
    const row = await database.pool.query(
      'select total_microdollars_acquired from kilocode_users where id = $1',
      [user],
    );
    expect(row.rows[0].total_microdollars_acquired).toBe('1000000');
  });

  it('refuses amounts and payers that make no sense', async () => {
    const { id: user } = await createUser(database.pool, { id: newId() });
    for (const usd of ['abc', '', Number.NaN, 0, '0.0000001', 1e300]) {
      await expect(addCredit(database.pool, { kilo_user_id: user, usd })).rejects.toMatchObject({
        details: { field: 'usd' },
      });
    }
    await expect(addCredit(database.pool, { usd: 1 })).rejects.toEqual(code('invalid_request'));
    await expect(
      addCredit(database.pool, { kilo_user_id: user, organization_id: randomUUID(), usd: 1 }),
    ).rejects.toEqual(code('invalid_request'));
    await expect(addCredit(database.pool, { kilo_user_id: newId(), usd: 1 })).rejects.toEqual(
      code('unknown_user'),
    );
    await expect(
      addCredit(database.pool, { organization_id: randomUUID(), usd: 1 }),
    ).rejects.toEqual(code('unknown_organization'));
    await addCredit(database.pool, { kilo_user_id: user, usd: '9007199254' });
    await expect(
      addCredit(database.pool, { kilo_user_id: user, usd: '9007199254' }),
    ).rejects.toEqual(code('out_of_range'));
  });
});

describe('adjustments', () => {
  it('refunds by a signed row that names the original; the balance follows', async () => {
    const { id: user } = await createUser(database.pool, { id: newId() });
    const original = await ledger.recordUsage({
      kilo_user_id: user,
      cost: 1_000_000,
      model: 'm',
      provider: 'p',
      created_at: '2026-01-02T03:04:05Z',
    });
    const id = randomUUID();
    const refund = await adjustUsage(ledger, original.id, '-0.25', { id });
    expect(refund).toMatchObject({ cost: -250_000, new_microdollars_used: 750_000 });
    const again = await adjustUsage(ledger, original.id, '-0.25', { id });
    expect(again).toMatchObject({ status: 'duplicate', new_microdollars_used: 750_000 });
    const rows = await database.pool.query(
      `select u.cost, u.model, u.provider, m.adjusts_usage_id, u.created_at > '2026-02-01' as is_now
       from microdollar_usage as u join microdollar_usage_metadata as m using (id)
       where u.id = $1`,
      [refund.id],
    );
    expect(rows.rows).toEqual([
      {
        cost: '-250000',
        model: 'm',
        provider: 'p',
        adjusts_usage_id: original.id,
        is_now: true,
      },
    ]);
  });

  it('refuses 0, and ids that name no usage', async () => {
    await expect(adjustUsage(ledger, randomUUID(), 0)).rejects.toEqual(code('invalid_request'));
    await expect(adjustUsage(ledger, randomUUID(), 1)).rejects.toEqual(code('unknown_usage'));
    await expect(adjustUsage(ledger, 'x', 1)).rejects.toEqual(code('invalid_request'));
  });
});
