import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import type { Scope } from '../../src/accounts/scopes.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { ADMIN_KEY, type Answer, startTestServer, type TestServer } from './serverHarness.js';

/** Who may see, set, change and remove which budgets, over HTTP and as the page does. */

type Person = { id: string; key: string; keyId: string };
const SCOPES: Scope[] = ['usage:write', 'usage:read', 'gateway'];
const RAISE = { raise_usd: 1, raise_until: '2999-01-01T00:00:00Z' };

let service: TestServer;
let owner: Person;
let member: Person;
let stranger: Person;
let removed: Person;
let organization: string;
/** Of the member, and pays for the organization. */
let sharedKey: string;

beforeAll(async () => {
  service = await startTestServer();
  [owner, member, stranger, removed] = (await Promise.all(
    [1, 2, 3, 4].map(() => service.newUser(SCOPES)),
  )) as [Person, Person, Person, Person];
  organization = await service.newOrganization(member.id, removed.id);
  await addOrganizationMember(service.ledger.pool, organization, owner.id, 'owner');
  await addCredit(service.ledger.pool, { kilo_user_id: member.id, usd: 10 });
  sharedKey = await newSharedKey(member.id);
  const path = `/api/organizations/${organization}/members/${removed.id}`;
  expect((await service.call('DELETE', path)).status).toBe(200);
});
afterAll(async () => {
  expect(await checkInvariants(service.database.pool)).toEqual([]);
  await service.stop();
});

async function newSharedKey(user: string): Promise<string> {
  const { body } = await service.post('/api/keys', {
    kilo_user_id: user,
    organization_id: organization,
    scopes: ['gateway'],
  });
  return body.id;
}

/** As HTTP and tRPC say it: the code of the error, or `allowed`. */
const codeOf = ({ body }: Answer): string =>
  body.error?.data?.ledgerCode ?? body.error?.code ?? 'allowed';
const set = (budget: object, key: string) =>
  service.post('/api/trpc/budgets.set', { limit_usd: 1, window: 'month', ...budget }, key);
const change = (id: string, changed: object, key: string) =>
  service.post('/api/trpc/budgets.change', { id, ...changed }, key);
const remove = (id: string, key: string) => service.post('/api/trpc/budgets.remove', { id }, key);
const list = (of: object, key: string) => service.query('budgets.list', of, key);
// biome-ignore lint/suspicious/noExplicitAny: tests assert on the shape.
const dataOf = ({ body }: Answer): any => body.result.data;
const newBudget = async (budget: object, key: string): Promise<string> =>
  dataOf(await set(budget, key)).id;
const idsOf = async (of: object, key: string): Promise<string[]> =>
  dataOf(await list(of, key)).budgets.map(({ id }: { id: string }) => id);

describe('a user', () => {
  it('limits themselves, their keys and their projects, changes that and takes it back', async () => {
    for (const budget of [
      { scope: 'user', id: member.id },
      { scope: 'key', id: member.keyId },
      { scope: 'project', id: 'p', kilo_user_id: member.id },
      { scope: 'key', id: sharedKey },
      { scope: 'member', id: member.id, organization_id: organization },
    ]) {
      const made = dataOf(await set(budget, member.key));
      expect(made).toMatchObject({ set_by: 'user', scope: budget.scope });
      expect(dataOf(await set({ ...budget, limit_usd: 2 }, member.key)).id).toBe(made.id);
      expect(dataOf(await change(made.id, RAISE, member.key)).limit_microdollars).toBe(3_000_000);
      expect(dataOf(await change(made.id, { raise_usd: 0 }, member.key))).toMatchObject({
        limit_microdollars: 2_000_000,
        raise_until: null,
      });
      expect(codeOf(await remove(made.id, member.key))).toBe('allowed');
      expect(codeOf(await remove(made.id, member.key))).toBe('not_found');
    }
  });

  it('never lifts what an administrator set: the lower of the two counts', async () => {
    const capped = await service.newUser(SCOPES);
    await addCredit(service.ledger.pool, { kilo_user_id: capped.id, usd: 10 });
    const budget = { scope: 'user', id: capped.id };
    const admins = await newBudget(budget, ADMIN_KEY);
    for (const changed of [{ limit_usd: 5 }, RAISE, { mode: 'soft' }]) {
      expect(codeOf(await change(admins, changed, capped.key))).toBe('forbidden');
    }
    expect(codeOf(await remove(admins, capped.key))).toBe('forbidden');
    const own = await newBudget({ ...budget, limit_usd: 5 }, capped.key);
    expect(own).not.toBe(admins);
    const hold = (amount: number) =>
      service.post('/api/holds', { kilo_user_id: capped.id, amount }, capped.key);
    const refused = await hold(1_000_001);
    expect(refused.body.error.details.refused_by.id).toBe(admins);
    expect(codeOf(await change(own, { limit_usd: '0.5' }, capped.key))).toBe('allowed');
    expect((await hold(500_001)).body.error.details.refused_by.id).toBe(own);
    expect((await hold(500_000)).body.status).toBe('granted');
    // Setting it again in another zone replaces the own one alone.
    const again = await newBudget({ ...budget, time_zone: 'Asia/Tokyo' }, capped.key);
    const setters = dataOf(await list({}, capped.key)).budgets.map(
      ({ id, set_by }: { id: string; set_by: string }) => [id, set_by],
    );
    expect(setters.slice(1)).toEqual([
      [admins, 'admin'],
      [again, 'user'],
    ]);
    // An administrator takes back what the user set.
    expect(codeOf(await remove(again, ADMIN_KEY))).toBe('allowed');
  });

  it('sees their own, the balance first, and nothing of anybody else', async () => {
    const own = await newBudget({ scope: 'user', id: stranger.id, window: 'day' }, stranger.key);
    expect(dataOf(await list({}, stranger.key)).budgets).toMatchObject([
      { is_balance: true },
      { id: own, kilo_user_id: stranger.id },
    ]);
    expect(await idsOf({ kilo_user_id: stranger.id }, stranger.key)).toHaveLength(2);
    for (const { key } of [owner, member, removed]) {
      expect(codeOf(await list({ kilo_user_id: stranger.id }, key))).toBe('forbidden');
      expect(codeOf(await set({ scope: 'user', id: stranger.id }, key))).toBe('forbidden');
      expect(codeOf(await set({ scope: 'key', id: stranger.keyId }, key))).toBe('forbidden');
      expect(codeOf(await change(own, { limit_usd: 9 }, key))).toBe('forbidden');
      expect(codeOf(await remove(own, key))).toBe('forbidden');
    }
    expect(await idsOf({}, stranger.key)).toContain(own);
  });

  it('changes nothing with a key that only reads', async () => {
    const { body } = await service.post('/api/keys', {
      kilo_user_id: member.id,
      scopes: ['usage:read'],
    });
    const own = await newBudget({ scope: 'user', id: member.id, window: 'week' }, member.key);
    expect(await idsOf({}, body.key)).toContain(own);
    for (const answer of [
      await set({ scope: 'user', id: member.id }, body.key),
      await change(own, { limit_usd: 9 }, body.key),
      await remove(own, body.key),
    ]) {
      expect([codeOf(answer), answer.body.error.data.details.field]).toEqual([
        'forbidden',
        'scopes',
      ]);
    }
    const writer = await service.newUser(['usage:write', 'gateway']);
    expect(codeOf(await list({}, writer.key))).toBe('forbidden');
    expect(codeOf(await set({ scope: 'user', id: writer.id }, writer.key))).toBe('forbidden');
  });
});

describe('an organization', () => {
  const ofOrganization = () => ({ organization_id: organization });

  it('is limited by its owner as a whole, by member, key and project; not past an administrator', async () => {
    for (const budget of [
      { scope: 'organization', id: organization },
      { scope: 'member', id: member.id, organization_id: organization },
      { scope: 'key', id: sharedKey },
      { scope: 'project', id: 'p', organization_id: organization },
    ]) {
      const admins = await newBudget(budget, ADMIN_KEY);
      const own = dataOf(await set(budget, owner.key));
      expect(own).toMatchObject({ set_by: 'owner', organization_id: organization });
      expect(codeOf(await change(admins, { limit_usd: 9 }, owner.key))).toBe('forbidden');
      expect(codeOf(await change(own.id, { limit_usd: 9 }, owner.key))).toBe('allowed');
      const ids = await idsOf(ofOrganization(), owner.key);
      expect([ids.includes(admins), ids.includes(own.id)]).toEqual([true, true]);
      for (const { key } of [member, stranger, removed]) {
        expect(codeOf(await change(own.id, { limit_usd: 9 }, key))).toBe('forbidden');
        expect(codeOf(await remove(own.id, key))).toBe('forbidden');
      }
      expect(codeOf(await remove(own.id, owner.key))).toBe('allowed');
      expect(codeOf(await remove(admins, ADMIN_KEY))).toBe('allowed');
    }
  });

  it('shows a member what limits them alone, and others nothing', async () => {
    const ownersKey = await newSharedKey(owner.id);
    const alone = [
      await newBudget({ scope: 'member', id: member.id, organization_id: organization }, owner.key),
      await newBudget({ scope: 'key', id: sharedKey }, owner.key),
    ];
    for (const budget of [
      { scope: 'organization', id: organization },
      { scope: 'member', id: owner.id, organization_id: organization },
      { scope: 'key', id: ownersKey },
      { scope: 'project', id: 'p', organization_id: organization },
    ]) {
      await newBudget(budget, owner.key);
      const as = budget.scope === 'member' ? { ...budget, id: owner.id } : budget;
      expect(codeOf(await set(as, member.key))).toBe('forbidden');
    }
    expect((await idsOf(ofOrganization(), member.key)).sort()).toEqual(alone.sort());
    for (const { key } of [stranger, removed]) {
      expect(codeOf(await list(ofOrganization(), key))).toBe('forbidden');
      expect(codeOf(await list({ organization_id: randomUUID() }, key))).toBe('forbidden');
    }
    // Nor does who was removed limit what was theirs.
    const former = { scope: 'member', id: removed.id, organization_id: organization };
    expect(codeOf(await set(former, removed.key))).toBe('invalid_request');
    expect(codeOf(await set({ scope: 'key', id: sharedKey }, removed.key))).toBe('forbidden');
  });

  it('is read by a service key as far as that reads, and set by none', async () => {
    const limited = await service.newServiceKey(SCOPES, organization);
    expect(await idsOf(ofOrganization(), limited)).not.toEqual([]);
    expect(codeOf(await list({ kilo_user_id: member.id }, limited))).toBe('forbidden');
    expect(codeOf(await list({}, limited))).toBe('invalid_request');
    expect(codeOf(await set({ scope: 'organization', id: organization }, limited))).toBe(
      'forbidden',
    );
    const foreign = await service.newServiceKey(SCOPES, await service.newOrganization());
    expect(codeOf(await list(ofOrganization(), foreign))).toBe('forbidden');
  });
});

describe('an administrator', () => {
  it('sees payer after payer, each with all of its budgets', async () => {
    const seen: { scope: string; id: string; budgets: { id: string }[] }[] = [];
    for (let after: object | null = null, hasMore = true; hasMore; ) {
      const page = dataOf(await service.query('budgets.payers', { after, limit: 2 }));
      expect(page.payers.length).toBeLessThanOrEqual(2);
      seen.push(...page.payers);
      const { scope, id } = page.payers.at(-1);
      after = { scope, id };
      hasMore = page.has_more;
    }
    const { rows } = await service.database.pool.query(
      `select payer_scope as scope, payer_id as id, count(*)::integer as budgets
       from budgets
       where removed_at is null
         and payer_id in (select payer_id from budgets where removed_at is null and not is_balance)
       group by payer_scope, payer_id order by payer_scope, payer_id`,
    );
    expect(seen.map(({ scope, id, budgets }) => ({ scope, id, budgets: budgets.length }))).toEqual(
      rows,
    );
    const acme = seen.find(({ id }) => id === organization);
    expect(acme).toMatchObject({ name: 'Acme' });
    for (const { key } of [owner, member]) {
      expect(codeOf(await service.query('budgets.payers', {}, key))).toBe('forbidden');
    }
    const { body } = await service.get('/api/budgets');
    expect(body.budgets).toHaveLength(seen.flatMap(({ budgets }) => budgets).length);
  });
});

it('names the field of what is wrong, as HTTP does', async () => {
  for (const [field, wrong] of [
    ['limit_usd', { limit_usd: 'much' }],
    ['window', { window: 'year' }],
    ['time_zone', { time_zone: 'Mars/Olympus' }],
    ['budget', { budget: 1 }],
  ] as const) {
    const budget = { scope: 'user', id: member.id, limit_usd: 1, window: 'day', ...wrong };
    const overHttp = await service.post('/api/budgets', budget, member.key);
    const { data } = (await set(budget, member.key)).body.error;
    expect([data.ledgerCode, data.details.field]).toEqual(['invalid_request', field]);
    expect(overHttp.body.error).toMatchObject({ code: data.ledgerCode, details: { field } });
  }
  const own = await newBudget({ scope: 'user', id: member.id, window: 'day' }, member.key);
  const wrong = await change(own, { raise_usd: 1, raise_until: 'soon' }, member.key);
  expect(wrong.body.error.data.details.field).toBe('raise_until');
});
