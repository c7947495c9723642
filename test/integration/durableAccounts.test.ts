import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createApiKey, revokeApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { addOrganizationMember, createOrganization } from '../../src/accounts/organizations.js';
import { Accounts } from '../../src/gateway/durable/accountsCache.js';
import { DatabaseGate } from '../../src/gateway/durable/databaseGate.js';
import { createInFlightLimit } from '../../src/gateway/durable/inFlight.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import {
  createUser,
  makeDataDir,
  newIntent,
  openGateway,
  type TestGateway,
  until,
  usageOf,
} from '../support/gateway.js';
import { openRelay, type Relay } from '../support/relay.js';

let database: TestDatabase;
let relay: Relay;
let place: ReturnType<typeof makeDataDir>;
let gateway: TestGateway;
let user: string;
let key: string;
let keyId: string;

const code = (expected: string) => expect.objectContaining({ code: expected });
const payer = () => ({ kilo_user_id: user, organization_id: null });

beforeEach(async () => {
  database = await createTestDatabase();
  relay = await openRelay(database.url);
  place = makeDataDir();
  user = await createUser(database.pool, 100);
  gateway = await openGateway(relay.url, place.dataDir);
  const created = await createApiKey(database.pool, { kilo_user_id: user, scopes: ['gateway'] });
  key = created.key;
  keyId = created.id;
});

afterEach(async () => {
  await relay.restore();
  await gateway.stop();
  await relay.close();
  await database.drop();
  place.remove();
});

describe('keys', () => {
  it('tell whom they act for; wrong and revoked ones are unauthorized', async () => {
    expect(await gateway.accounts.authenticate(key)).toEqual({
      keyId,
      kiloUserId: user,
      organizationId: null,
      scopes: new Set(['gateway']),
      hasBudgets: false,
    });
    const wrong = `md_${'x'.repeat(43)}`;
    await expect(gateway.accounts.authenticate(wrong)).rejects.toEqual(code('unauthorized'));
    await revokeApiKey(gateway.ledger.pool, keyId);
    await expect(gateway.accounts.authenticate(key)).rejects.toEqual(code('unauthorized'));
  });

  it('are known without the database when they were seen, and not otherwise', async () => {
    const organization = await createOrganization(database.pool, { name: 'Acme' });
    await addOrganizationMember(database.pool, organization.id, user);
    await gateway.accounts.authenticate(key);
    expect(await gateway.accounts.isMember(organization.id, user)).toBe(true);
    await relay.cut();
    expect(await gateway.accounts.authenticate(key)).toMatchObject({ keyId });
    expect(await gateway.accounts.isMember(organization.id, user)).toBe(true);
    const unseen = `md_${'y'.repeat(43)}`;
    await expect(gateway.accounts.authenticate(unseen)).rejects.toEqual(code('unavailable'));
    await expect(gateway.accounts.isMember(randomUUID(), user)).rejects.toEqual(
      code('unavailable'),
    );
  });

  it('that were revoked are not let in by the cache', async () => {
    await gateway.accounts.authenticate(key);
    await revokeApiKey(gateway.ledger.pool, keyId);
    await expect(gateway.accounts.authenticate(key)).rejects.toEqual(code('unauthorized'));
    await relay.cut();
    await until(async () => {
      const outcome = await gateway.accounts.authenticate(key).catch((error) => error);
      expect(['unauthorized', 'unavailable']).toContain(outcome.code);
      return outcome.code === 'unavailable';
    });
  });
});

describe('balances', () => {
  it('are exact, and go down with what is recorded', async () => {
    expect(await gateway.accounts.admit(payer())).toMatchObject({ remainingMicrodollars: 100 });
    const intent = newIntent(user);
    await gateway.sink.settle(usageOf(intent, { cost: 60 }));
    expect(await gateway.accounts.admit(payer())).toMatchObject({ remainingMicrodollars: 40 });
    await gateway.sink.settle(usageOf(newIntent(user), { cost: 50 }));
    expect(await gateway.accounts.admit(payer())).toMatchObject({ remainingMicrodollars: -10 });
  });

  it('of an organization are its own', async () => {
    const { id } = await createOrganization(database.pool, { name: 'Acme' });
    await addCredit(database.pool, { organization_id: id, usd: '0.0005' });
    const organization = { kilo_user_id: user, organization_id: id };
    await gateway.sink.settle(usageOf(newIntent(user, { organization_id: id })));
    expect(await gateway.accounts.admit(organization)).toMatchObject({
      remainingMicrodollars: 493,
    });
    expect(await gateway.accounts.admit(payer())).toMatchObject({ remainingMicrodollars: 100 });
    await expect(
      gateway.accounts.admit({ kilo_user_id: 'nobody', organization_id: null }),
    ).rejects.toEqual(code('unknown_user'));
    await expect(
      gateway.accounts.admit({ kilo_user_id: user, organization_id: randomUUID() }),
    ).rejects.toEqual(code('unknown_organization'));
  });

  it('follow a top-up though they were used up', async () => {
    await gateway.sink.settle(usageOf(newIntent(user), { cost: 100 }));
    expect(await gateway.accounts.admit(payer())).toMatchObject({ remainingMicrodollars: 0 });
    await addCredit(database.pool, { kilo_user_id: user, usd: '0.000025' });
    await until(async () => (await gateway.accounts.admit(payer())).remainingMicrodollars === 25);
  });

  it('without the database are the last one read less what was recorded since', async () => {
    await gateway.accounts.admit(payer());
    await relay.cut();
    await gateway.sink.settle(usageOf(newIntent(user), { cost: 30 }));
    await until(async () => !gateway.sink.status().databaseAvailable);
    const offline = await gateway.accounts.admit(payer());
    expect(offline.remainingMicrodollars).toBe(70);
    const stranger = await createUser(database.pool, 100);
    await expect(
      gateway.accounts.admit({ kilo_user_id: stranger, organization_id: null }),
    ).rejects.toEqual(code('unavailable'));
    await relay.restore();
    await until(() => gateway.sink.status().depthRecords === 0);
    expect((await gateway.accounts.admit(payer())).remainingMicrodollars).toBe(70);
  });

  it('know of usage in the journal that the database does not know yet', async () => {
    const gate = new DatabaseGate({
      probe: async () => {},
      timeoutMs: 5_000,
      onChange: () => {},
    });
    const accounts = new Accounts({ ledger: gateway.ledger, gate, balanceFreshMs: 0 });
    await accounts.admit(payer());
    accounts.noteSpent(payer(), 30, 'journal');
    expect((await accounts.admit(payer())).remainingMicrodollars).toBe(70);
    await gateway.sink.settle(usageOf(newIntent(user), { cost: 30 }));
    accounts.noteDrained(payer(), 30);
    expect((await accounts.admit(payer())).remainingMicrodollars).toBe(70);
    gate.stop();
  });

  it('that are far from used up are looked at beside the request, and for a second at most', async () => {
    let nowMs = 0;
    const gate = new DatabaseGate({ probe: async () => {}, timeoutMs: 5_000, onChange: () => {} });
    let looks = 0;
    const at: TestGateway['ledger']['at'] = async (...look) => {
      const answer = await gateway.ledger.at(...look);
      looks++;
      return answer;
    };
    const ledger = Object.assign(Object.create(gateway.ledger), { at });
    const accounts = new Accounts({ ledger, gate, clock: () => nowMs });
    const left = async (far?: number) => (await accounts.admit(payer(), far)).remainingMicrodollars;
    expect(await left(99)).toBe(100);
    await gateway.sink.settle(usageOf(newIntent(user), { cost: 60 }));
    nowMs = 300;
    expect(await left(99)).toBe(100);
    // Asked for once: another one under way would be what the next request waits for.
    await until(() => looks === 2);
    expect(await left(99)).toBe(40);
    await gateway.sink.settle(usageOf(newIntent(user), { cost: 5 }));
    nowMs += 300;
    // Not far any more: it is waited for.
    expect(await left(40)).toBe(35);
    await gateway.sink.settle(usageOf(newIntent(user), { cost: 5 }));
    nowMs += 1_000;
    expect(await left(1)).toBe(30);
    gate.stop();
  });

  it('and keys are refused once they are older than stated', async () => {
    let nowMs = 0;
    const gate = new DatabaseGate({
      probe: () => Promise.reject(new Error('away')),
      timeoutMs: 5_000,
      onChange: () => {},
    });
    const accounts = new Accounts({
      ledger: gateway.ledger,
      gate,
      maxKeyAgeMs: 1_000,
      maxBalanceAgeMs: 500,
      clock: () => nowMs,
    });
    await accounts.authenticate(key);
    await accounts.admit(payer());
    gate.report(Object.assign(new Error('gone'), { code: 'ECONNREFUSED' }));
    nowMs = 499;
    expect(await accounts.admit(payer())).toEqual({
      hasBudgets: false,
      remainingMicrodollars: 100,
      ageMs: 499,
    });
    nowMs = 501;
    await expect(accounts.admit(payer())).rejects.toEqual(code('unavailable'));
    expect(await accounts.authenticate(key)).toMatchObject({ keyId });
    nowMs = 1_001;
    await expect(accounts.authenticate(key)).rejects.toEqual(code('unavailable'));
    gate.stop();
  });
});

describe('requests in flight', () => {
  it('are capped per payer, whoever of an organization sends them', () => {
    const limit = createInFlightLimit(2);
    const organization = (name: string) => ({ kilo_user_id: name, organization_id: 'o' });
    const releases = [limit.tryAcquire(organization('a')), limit.tryAcquire(organization('b'))];
    expect(limit.tryAcquire(organization('c'))).toBeNull();
    expect(limit.tryAcquire({ kilo_user_id: 'a', organization_id: null })).not.toBeNull();
    releases[0]?.();
    releases[0]?.();
    expect(limit.inFlight(organization('a'))).toBe(1);
    expect(limit.tryAcquire(organization('c'))).not.toBeNull();
    expect(limit.tryAcquire(organization('c'))).toBeNull();
  });
});
