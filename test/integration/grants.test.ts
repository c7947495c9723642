import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import {
  getOrganization,
  getUser,
  listOrganizations,
  listUsers,
} from '../../src/accounts/listAccounts.js';
import { listPayerCredits } from '../../src/accounts/listCredits.js';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../src/schema/unsettled.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { acquiredBy, addGrant, ago, expirerOf, grantsOf, setExpiry } from './grantHarness.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

let fixture: LedgerFixture;
let ledger: Ledger;
let user: string;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});
beforeEach(async () => {
  user = await fixture.addUser();
});
afterAll(() => fixture.close());

const DAY = 24 * 3_600_000;
const expire = () => expirerOf(ledger).expirePayer(USER_SCOPE, user);

describe('a grant', () => {
  it('is added once by its id, also when it has expired since', async () => {
    const credit = {
      id: randomUUID(),
      kilo_user_id: user,
      usd: 1,
      expires_at: new Date(Date.now() + DAY).toISOString(),
      priority: 3,
      note: 'welcome',
    };
    const added = await addCredit(ledger.pool, credit);
    expect(added).toMatchObject({ status: 'recorded', priority: 3, description: 'welcome' });
    expect(Date.parse(added.expires_at ?? '')).toBe(Date.parse(credit.expires_at));
    const again = await addCredit(ledger.pool, credit);
    expect(again).toEqual({ ...added, status: 'duplicate' });
    for (const change of [{ expires_at: null }, { priority: 2 }, { usd: 2 }]) {
      const error = await ledgerErrorOf(addCredit(ledger.pool, { ...credit, ...change }));
      expect(error).toMatchObject({ code: 'idempotency_conflict', details: { field: 'id' } });
    }
    const at = ago(DAY);
    await setExpiry(fixture, [credit.id], at);
    const late = await addCredit(ledger.pool, { ...credit, expires_at: at });
    expect(late.status).toBe('duplicate');
    expect(await acquiredBy(fixture, user)).toBe(1_000_000);
  });

  it.each([
    [{ expires_at: '2020-01-01T00:00:00Z' }, 'expires_at', /lies in the past: name a time to come/],
    [{ expires_at: 'tomorrow' }, 'expires_at', /must be an ISO 8601 instant with an offset/],
    [{ expires_at: '2999-01-01T00:00:00Z', usd: -1 }, 'expires_at', /leave it out to take back/],
    [{ priority: 1.5 }, 'priority', /whole number, -1000 to 1000/],
    [{ priority: 1001 }, 'priority', /whole number/],
    [{ note: 'a', description: 'b' }, 'note', /give one of the two/],
    [{ note: 'x'.repeat(300) }, 'note', /at most 256/],
  ])('%j is refused by its field, and nothing is changed', async (change, field, message) => {
    const error = await ledgerErrorOf(
      addCredit(ledger.pool, { kilo_user_id: user, usd: 1, ...change }),
    );
    expect(error).toMatchObject({ code: 'invalid_request', details: { field } });
    expect(error.message).toMatch(message);
    expect(await acquiredBy(fixture, user)).toBe(0);
  });

  it('goes to no user who was deleted', async () => {
    await softDeleteUser(ledger.pool, user);
    const error = await ledgerErrorOf(addCredit(ledger.pool, { kilo_user_id: user, usd: 1 }));
    expect(error).toMatchObject({ code: 'unknown_user', details: { field: 'kilo_user_id' } });
    expect(error.message).toMatch(/was deleted/);
  });

  it('is used before others that expire later, and pays a debt first', async () => {
    const payer = { kilo_user_id: user };
    await ledger.recordUsage({ kilo_user_id: user, cost: 30 });
    await addCredit(ledger.pool, { ...payer, usd: '0.0001' });
    await addGrant(ledger, payer, 50, 1);
    await addGrant(ledger, payer, 50, 0);
    await ledger.recordUsage({ kilo_user_id: user, cost: 60 });
    const { rows, next_expiry_at: next } = await listPayerCredits(ledger.pool, payer);
    expect(next).toBe('2999-01-01T00:00:00.000000Z');
    expect(rows.map(({ grant }) => grant?.left_microdollars)).toEqual([0, 40, 70]);
    expect(rows.map(({ grant }) => grant?.status)).toEqual(['used', 'active', 'active']);
    expect((await getUser(ledger.pool, user)).next_credit_expiry_at).toBe(
      '2999-01-01T00:00:00.000Z',
    );
    await fixture.expectExact();
  });

  it('is the next to expire only while something is left of it', async () => {
    const organization = await fixture.addOrganization();
    for (const payer of [{ kilo_user_id: user }, { organization_id: organization }]) {
      const isOrganization = 'organization_id' in payer;
      const id = isOrganization ? organization : user;
      const next = async () => {
        const one = isOrganization ? getOrganization(ledger.pool, id) : getUser(ledger.pool, id);
        const { next_credit_expiry_at: at } = await one;
        const { rows } = await (isOrganization ? listOrganizations : listUsers)(ledger.pool);
        expect(rows.find((row) => row.id === id)).toMatchObject({ next_credit_expiry_at: at });
        return at;
      };
      const use = (cost: number) => ledger.recordUsage({ kilo_user_id: user, ...payer, cost });
      const sooner = await addGrant(ledger, payer, 50);
      const later = await addGrant(ledger, payer, 50);
      await setExpiry(fixture, [sooner], new Date('2900-01-01'));
      await setExpiry(fixture, [later], new Date('2901-01-01'));
      await use(49);
      expect(await next()).toBe('2900-01-01T00:00:00.000Z');
      await use(1);
      expect(await next()).toBe('2901-01-01T00:00:00.000Z');
      await use(50);
      expect(await next()).toBeNull();
      await addCredit(ledger.pool, { ...payer, usd: '0.0001' });
      expect(await next()).toBeNull();
    }
  });
});

describe('what expires', () => {
  it('leaves the balance as a row that names its grant, and is done once', async () => {
    const payer = { kilo_user_id: user };
    await addCredit(ledger.pool, { ...payer, usd: '0.0005' });
    const grant = await addGrant(ledger, payer, 1_000);
    await ledger.recordUsage({ ...payer, cost: 300, created_at: ago(10_000) });
    await setExpiry(fixture, [grant], ago(5_000));
    expect(await grantsOf(ledger, payer)).toEqual([
      { status: 'active', left: 500, used: 0, expired: 0 },
      { status: 'expiring', left: 700, used: 300, expired: 0 },
    ]);
    // Of the time after: not the grant's, though it comes before the row.
    await ledger.recordUsage({ ...payer, cost: 40 });
    expect(await expire()).toEqual([
      {
        payer_scope: 'user',
        payer_id: user,
        grant_id: grant,
        kind: 'expiry',
        expired_microdollars: 700,
      },
    ]);
    expect(await expire()).toEqual([]);
    const { rows, next_expiry_at: next } = await listPayerCredits(ledger.pool, payer);
    expect(next).toBeNull();
    expect(rows).toMatchObject([
      { kind: 'expiry', grant_id: grant, amount_microdollars: -700, grant: null },
      { kind: 'credit', grant: { status: 'expired', used_microdollars: 300 } },
      { kind: 'credit', grant: { status: 'active', left_microdollars: 460 } },
    ]);
    expect(await acquiredBy(fixture, user)).toBe(800);
    await fixture.expectExact();
  });

  it('takes no balance below what is spent already; the rest goes once there is credit', async () => {
    const payer = { kilo_user_id: user };
    const grant = await addGrant(ledger, payer, 1_000);
    await setExpiry(fixture, [grant], ago(5_000));
    await ledger.recordUsage({ ...payer, cost: 40 });
    expect(await expire()).toMatchObject([{ expired_microdollars: 960 }]);
    expect(await grantsOf(ledger, payer)).toEqual([
      { status: 'expiring', left: 40, used: 0, expired: 960 },
    ]);
    await addCredit(ledger.pool, { ...payer, usd: '0.0001' });
    expect(await expire()).toMatchObject([{ expired_microdollars: 40 }]);
    expect(await grantsOf(ledger, payer)).toEqual([
      { status: 'expired', left: 0, used: 0, expired: 1_000 },
      { status: 'active', left: 60, used: 40, expired: 0 },
    ]);
    await fixture.expectExact();
  });

  it('is corrected by late usage within a day, and by none that comes later', async () => {
    const grant = await addGrant(ledger, { kilo_user_id: user }, 100);
    const hours = (n: number) => ago(n * 3_600_000);
    await setExpiry(fixture, [grant], hours(23));
    await expire();
    expect(await acquiredBy(fixture, user)).toBe(0);
    const late = { kilo_user_id: user, created_at: hours(30) };
    await ledger.recordUsage({ ...late, cost: 60 });
    expect(await expire()).toMatchObject([
      { kind: 'expiry_correction', expired_microdollars: -60 },
    ]);
    await ledger.recordUsage({ ...late, cost: 60 });
    expect(await expire()).toMatchObject([{ expired_microdollars: -40 }]);
    expect(await grantsOf(ledger, { kilo_user_id: user })).toMatchObject([
      { status: 'expired', left: 0, used: 100, expired: 0 },
    ]);
    const second = await addGrant(ledger, { kilo_user_id: user }, 120);
    await ledger.fold();
    await setExpiry(fixture, [grant, second], hours(25));
    await expire();
    const closed = await fixture.rows(
      'select from credit_expiries where closed_at is not null and payer_id = $1',
      [user],
    );
    expect(closed).toHaveLength(2);
    await ledger.recordUsage({ ...late, cost: 10 });
    expect(await expire()).toEqual([]);
    await fixture.expectExact();
  });

  it('of an organization is its own', async () => {
    const organization = await fixture.addOrganization();
    const payer = { organization_id: organization };
    const grant = await addGrant(ledger, payer, 500);
    await ledger.recordUsage({ kilo_user_id: user, cost: 50, created_at: ago(60_000) });
    await ledger.recordUsage({
      kilo_user_id: user,
      organization_id: organization,
      cost: 200,
      created_at: ago(60_000),
    });
    await setExpiry(fixture, [grant], ago(1_000));
    const expirer = expirerOf(ledger);
    expect(await expirer.preview(ORGANIZATION_SCOPE, organization)).toMatchObject([
      { expired_microdollars: 300 },
    ]);
    expect((await expirer.expireDue()).expired).toContainEqual(
      expect.objectContaining({ payer_id: organization, expired_microdollars: 300 }),
    );
    expect(await getOrganization(ledger.pool, organization)).toMatchObject({
      total_microdollars_acquired: 200,
      microdollars_used: 200,
      next_credit_expiry_at: null,
    });
    expect((await expirer.expireDue()).expired).toEqual([]);
    await fixture.expectExact();
  });

  it('is noted by credit that comes before the task does, which then withdraws it', async () => {
    const grant = await addGrant(ledger, { kilo_user_id: user }, 100);
    await setExpiry(fixture, [grant], ago(1_000));
    await addCredit(ledger.pool, { kilo_user_id: user, usd: '0.00005' });
    await ledger.recordUsage({ kilo_user_id: user, cost: 20 });
    expect(await grantsOf(ledger, { kilo_user_id: user })).toMatchObject([
      { status: 'expiring', left: 100, used: 0 },
      { status: 'active', left: 30, used: 20 },
    ]);
    expect(await expire()).toMatchObject([
      { kind: 'expiry_correction', expired_microdollars: 100 },
    ]);
    expect(await acquiredBy(fixture, user)).toBe(50);
    await fixture.expectExact();
  });

  it('is not asked for all the time where nothing will', async () => {
    const own = await createLedgerFixture();
    try {
      const alone = await own.open();
      expect(await expirerOf(alone).expireDue()).toMatchObject({ nextInMs: null });
      await addGrant(alone, { kilo_user_id: await own.addUser() }, 1_000, 1);
      const { nextInMs } = await expirerOf(alone).expireDue();
      expect(nextInMs).toBeGreaterThan(1_000);
    } finally {
      await own.close();
    }
  });

  it('goes by itself at its time where a service runs', async () => {
    const soon = new Date(Date.now() + 400);
    await addCredit(ledger.pool, { kilo_user_id: user, usd: 1, expires_at: soon });
    const service = await fixture.open({ backgroundFold: true });
    await expect.poll(() => acquiredBy(fixture, user)).toBe(0);
    await service.close();
    const [row] = await fixture.rows<{ is_in_time: boolean }>(
      `select created_at >= $2::timestamptz as is_in_time from credit_transactions
       where kilo_user_id = $1 and kind = 'expiry'`,
      [user, soon.toISOString()],
    );
    expect(row?.is_in_time).toBe(true);
  });
});

describe('the check of the invariants finds', () => {
  const DAMAGE: [name: string, damage: string, found: RegExp[]][] = [
    [
      'an expiry that is written twice',
      `insert into credit_transactions (kilo_user_id, kind, grant_id, amount_microdollars)
       select kilo_user_id, 'expiry_correction', grant_id, amount_microdollars
       from credit_transactions where kilo_user_id = $1 and kind = 'expiry'`,
      [/grants have/, /acquired 130, but its ledger says 30/, /late 30, expired 170/],
    ],
    [
      'a row that is lost',
      `delete from credit_transactions where kilo_user_id = $1 and kind = 'expiry'`,
      [/grants have/, /acquired 130, but its ledger says 230/, /: 0 rows of kind expiry, expired/],
    ],
    [
      'a total that moved without a row',
      `update kilocode_users set total_microdollars_acquired = 131 where id = $1`,
      [/balance 31, but its grants have 30 left/, /acquired 131, but its ledger says 130/],
    ],
    [
      'a grant that another row names',
      `update credit_transactions set grant_id = gen_random_uuid() where kilo_user_id = $1
         and kind = 'expiry'`,
      [/names no grant/],
    ],
    [
      'what was left of a grant, wrong',
      `update credit_expiries set left_microdollars = 110 where payer_id = $1`,
      [/left 100, but stored is 110/],
    ],
    [
      'late usage that was paid twice',
      `update credit_expiries set late_microdollars = late_microdollars + 1 where payer_id = $1`,
      [/late 31, expired 70/],
    ],
    [
      'one that is closed with something left',
      `update credit_expiries set late_microdollars = 0, closed_at = now() where payer_id = $1`,
      [/late 0, expired 70, closed/],
    ],
    [
      'an expiry of another time than the grant says',
      `update credit_expiries set expires_at = now() where payer_id = $1`,
      [/its credit says/],
    ],
  ];

  it.each(DAMAGE)('%s', async (_, damage, found) => {
    await addCredit(ledger.pool, { kilo_user_id: user, usd: '0.0001' });
    const grant = await addGrant(ledger, { kilo_user_id: user }, 100);
    await setExpiry(fixture, [grant], ago(5_000));
    await expire();
    await ledger.recordUsage({ kilo_user_id: user, cost: 30, created_at: ago(10_000) });
    await expire();
    await ledger.recordUsage({ kilo_user_id: user, cost: 70 });
    expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    await fixture.rows(damage, [user]);
    const violations = await checkInvariants(fixture.database.pool);
    for (const each of found) expect(violations).toContainEqual(expect.stringMatching(each));
    expect(violations.every((each) => each.startsWith('I14'))).toBe(true);
    await fixture.rows('delete from credit_expiries where payer_id = $1', [user]);
    await fixture.rows('delete from credit_transactions where kilo_user_id = $1', [user]);
  });
});
