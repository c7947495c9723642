import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { openSessions, type Session } from '../support/sessions.js';
import { type Answer, startTestServer, type TestServer } from './serverHarness.js';

/** Who may see and change the members of an organization. */

let service: TestServer;
type Person = { id: string; key: string; keyId: string };
const SCOPES = ['usage:write', 'usage:read', 'gateway'] as const;
let owner: Person;
let member: Person;
let stranger: Person;
let organization: string;

beforeAll(async () => {
  service = await startTestServer();
  owner = await service.newUser([...SCOPES]);
  member = await service.newUser([...SCOPES]);
  stranger = await service.newUser([...SCOPES]);
  organization = await service.newOrganization(member.id);
  await addOrganizationMember(service.ledger.pool, organization, owner.id, 'owner');
});
afterAll(() => service?.stop());

// biome-ignore lint/suspicious/noExplicitAny: tests assert on the shape.
const codeOf = (answer: { body: any }) => answer.body.error?.data?.ledgerCode ?? 'allowed';
const list = (key: string, of = organization) =>
  service.query('members.list', { organization_id: of }, key);
const change = (
  procedure: 'add' | 'setRole' | 'remove',
  kilo_user_id: string,
  key: string,
  role?: string,
) =>
  service.post(
    `/api/trpc/members.${procedure}`,
    { organization_id: organization, kilo_user_id, ...(role === undefined ? {} : { role }) },
    key,
  );
const rolesOf = async () => {
  const { body } = await list(owner.key);
  const members: { kilo_user_id: string; role: string }[] = body.result.data.members;
  return new Map(members.map(({ kilo_user_id, role }) => [kilo_user_id, role]));
};

describe('an owner', () => {
  it('sees, adds, promotes, demotes and removes members', async () => {
    const newcomer = await service.newUser([...SCOPES]);
    expect(codeOf(await change('add', newcomer.id, owner.key, 'member'))).toBe('allowed');
    expect((await rolesOf()).get(newcomer.id)).toBe('member');
    expect(codeOf(await list(newcomer.key))).toBe('forbidden');
    expect(codeOf(await change('add', newcomer.id, owner.key, 'member'))).toBe('already_exists');
    expect(codeOf(await change('setRole', newcomer.id, owner.key, 'owner'))).toBe('allowed');
    expect(codeOf(await list(newcomer.key))).toBe('allowed');
    expect(codeOf(await change('setRole', newcomer.id, owner.key, 'member'))).toBe('allowed');
    expect(codeOf(await list(newcomer.key))).toBe('forbidden');
    expect(codeOf(await change('remove', newcomer.id, owner.key))).toBe('allowed');
    expect((await rolesOf()).has(newcomer.id)).toBe(false);
    expect(codeOf(await change('remove', newcomer.id, owner.key))).toBe('not_found');
  });

  it('is told what is wrong with a member or a role', async () => {
    expect(codeOf(await change('add', 'nobody', owner.key, 'member'))).toBe('unknown_user');
    expect(codeOf(await change('add', stranger.id, owner.key, 'chief'))).toBe('invalid_request');
    expect(codeOf(await change('setRole', member.id, owner.key, 'chief'))).toBe('invalid_request');
    expect(codeOf(await change('setRole', stranger.id, owner.key, 'member'))).toBe('not_found');
    expect(codeOf(await change('remove', 'a\u0000b', owner.key))).toBe('invalid_request');
    expect(codeOf(await change('remove', '', owner.key))).toBe('invalid_request');
  });

  it('stays one: the last owner neither leaves nor steps down', async () => {
    for (const answer of [
      await change('remove', owner.id, owner.key),
      await change('setRole', owner.id, owner.key, 'member'),
    ]) {
      expect(codeOf(answer)).toBe('forbidden');
      expect(answer.body.error.message).toContain('keeps an owner');
    }
    expect(codeOf(await change('setRole', owner.id, owner.key, 'owner'))).toBe('allowed');
    expect((await rolesOf()).get(owner.id)).toBe('owner');
  });

  it('of two who remove each other at once, one stays', async () => {
    for (let round = 0; round < 5; round++) {
      const rival = await service.newUser([...SCOPES]);
      await change('add', rival.id, owner.key, 'owner');
      const answers = await Promise.all([
        change('remove', rival.id, owner.key),
        change('remove', owner.id, rival.key),
      ]);
      expect(answers.map(codeOf).sort()).toEqual(['allowed', 'forbidden']);
      // Whoever it was: the test goes on with its owner.
      if (codeOf(answers[1]) === 'allowed') {
        await change('add', owner.id, rival.key, 'owner');
        await change('remove', rival.id, owner.key);
      }
    }
  });

  it('who is being removed adds nobody any more, themselves least of all', async () => {
    const rival = await service.newUser([...SCOPES]);
    await change('add', rival.id, owner.key, 'owner');
    await using sessions = await openSessions(service.database.url, 1);
    const [remover] = sessions.all as [Session];
    await remover.run('begin');
    await remover.run(
      'delete from organization_memberships where organization_id = $1 and kilo_user_id = $2',
      [organization, rival.id],
    );
    const adding = change('add', rival.id, rival.key, 'owner');
    const waiting = 'select from pg_locks where not granted';
    await expect.poll(() => remover.run(waiting)).not.toEqual([]);
    await remover.run('commit');
    expect(codeOf(await adding)).toBe('forbidden');
    expect((await rolesOf()).has(rival.id)).toBe(false);
  });

  it('changes members only with a key that could spend as they may', async () => {
    for (const scopes of [
      ['usage:read'],
      ['usage:read', 'gateway'],
      ['usage:read', 'usage:write'],
    ]) {
      const { body } = await service.post('/api/keys', { kilo_user_id: owner.id, scopes });
      expect(codeOf(await list(body.key))).toBe('allowed');
      expect(codeOf(await change('add', stranger.id, body.key, 'member'))).toBe('forbidden');
      expect(codeOf(await change('setRole', member.id, body.key, 'owner'))).toBe('forbidden');
      expect(codeOf(await change('remove', member.id, body.key))).toBe('forbidden');
    }
    expect([...(await rolesOf())].sort()).toEqual(
      [
        [member.id, 'member'],
        [owner.id, 'owner'],
      ].sort(),
    );
  });
});

describe('who is no owner', () => {
  it('sees and changes nobody: a member, a stranger, an owner of another one, a removed owner', async () => {
    const former = await service.newUser([...SCOPES]);
    await change('add', former.id, owner.key, 'owner');
    await change('remove', former.id, owner.key);
    const other = await service.newUser([...SCOPES]);
    const elsewhere = await service.newOrganization();
    await addOrganizationMember(service.ledger.pool, elsewhere, other.id, 'owner');
    for (const { id, key } of [member, stranger, other, former]) {
      expect(codeOf(await list(key))).toBe('forbidden');
      expect(codeOf(await change('add', id, key, 'owner'))).toBe('forbidden');
      expect(codeOf(await change('setRole', id, key, 'owner'))).toBe('forbidden');
      expect(codeOf(await change('setRole', owner.id, key, 'member'))).toBe('forbidden');
      expect(codeOf(await change('remove', owner.id, key))).toBe('forbidden');
      expect(codeOf(await change('remove', 'nobody', key))).toBe('forbidden');
    }
    expect(await rolesOf()).toEqual(
      new Map([
        [member.id, 'member'],
        [owner.id, 'owner'],
      ]),
    );
  });

  it('reaches it with a service key only as far as that reads', async () => {
    const limited = await service.newServiceKey([...SCOPES], organization);
    expect(codeOf(await list(limited))).toBe('allowed');
    expect(codeOf(await change('add', stranger.id, limited, 'member'))).toBe('forbidden');
    const foreign = await service.newServiceKey([...SCOPES], await service.newOrganization());
    expect(codeOf(await list(foreign))).toBe('forbidden');
    const writer = await service.newUser(['usage:write', 'gateway']);
    expect(codeOf(await list(writer.key))).toBe('forbidden');
  });
});

describe('who leaves', () => {
  const leave = (key: string, of = organization) =>
    service.post('/api/trpc/members.leave', { organization_id: of }, key);
  const leaveOverHttp = (key: string, of = organization) =>
    service.post(`/api/organizations/${of}/leave`, {}, key);
  const spend = ({ id, key }: Person) =>
    service.post(
      '/api/usage',
      { events: [{ kilo_user_id: id, organization_id: organization, cost: 7 }] },
      key,
    );

  it('is a member or an owner, of their own will, and spends nothing of it from then on', async () => {
    for (const role of ['member', 'owner']) {
      for (const out of [leave, leaveOverHttp]) {
        const leaver = await service.newUser([...SCOPES]);
        await change('add', leaver.id, owner.key, role);
        expect((await spend(leaver)).body.results[0].status).toBe('recorded');
        expect((await out(leaver.key)).status).toBe(200);
        expect((await rolesOf()).has(leaver.id)).toBe(false);
        expect((await spend(leaver)).body.results[0]).toMatchObject({
          error: { code: 'forbidden' },
        });
        expect((await out(leaver.key)).status).toBe(404);
      }
    }
  });

  it('is not the last owner, nor whose key only reads, nor a service', async () => {
    for (const answer of [await leave(owner.key), await leaveOverHttp(owner.key)]) {
      expect(answer.status).toBe(403);
      expect(answer.body.error.message).toContain('keeps an owner');
    }
    const reader = await service.post('/api/keys', {
      kilo_user_id: member.id,
      scopes: ['usage:read'],
    });
    expect((await leaveOverHttp(reader.body.key)).body.error.code).toBe('forbidden');
    expect(codeOf(await leave(reader.body.key))).toBe('forbidden');
    const limited = await service.newServiceKey([...SCOPES], organization);
    expect(codeOf(await leave(limited))).toBe('invalid_request');
    expect((await rolesOf()).has(member.id)).toBe(true);
  });

  it('leaves an organization that has no owner, and gains no role by trying', async () => {
    const ownerless = await service.newOrganization(stranger.id);
    const own = { organization_id: ownerless, kilo_user_id: stranger.id };
    const promoted = await service.post(
      '/api/trpc/members.setRole',
      { ...own, role: 'owner' },
      stranger.key,
    );
    expect(codeOf(promoted)).toBe('forbidden');
    expect((await leave(stranger.key, ownerless)).status).toBe(200);
  });

  it('of two owners at once is one', async () => {
    const rival = await service.newUser([...SCOPES]);
    await change('add', rival.id, owner.key, 'owner');
    const answers = await Promise.all([leave(rival.key), leave(owner.key)]);
    expect(answers.map(codeOf).sort()).toEqual(['allowed', 'forbidden']);
    if (codeOf(answers[1] as Answer) === 'allowed') {
      await change('add', owner.id, rival.key, 'owner');
      await leave(rival.key);
    }
    expect((await rolesOf()).get(owner.id)).toBe('owner');
  });
});

it('who is removed spends nothing of the organization from then on', async () => {
  const leaver = await service.newUser([...SCOPES]);
  await change('add', leaver.id, owner.key, 'member');
  const spend = () =>
    service.post(
      '/api/usage',
      { events: [{ kilo_user_id: leaver.id, organization_id: organization, cost: 5 }] },
      leaver.key,
    );
  expect((await spend()).body.results[0].status).toBe('recorded');
  await change('remove', leaver.id, owner.key);
  expect((await spend()).body.results[0]).toMatchObject({ error: { code: 'forbidden' } });
  const report = await service.query(
    'usage.report',
    { organization_id: organization, member: leaver.id },
    owner.key,
  );
  expect(report.body.result.data.total.cost_microdollars).toBe(5);
});
