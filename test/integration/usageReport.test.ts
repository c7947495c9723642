import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { DimensionFolder } from '../../src/counter/dimensionFolder.js';
import { addDays } from '../../src/days.js';
import { queryOnPool } from '../../src/db/query.js';
import { DIMENSION_ROLLUPS } from '../../src/schema/dimensionRollups.js';
import { runCommand } from './cliHarness.js';
import { ADMIN_KEY, startTestServer, type TestServer } from './serverHarness.js';

let service: TestServer;
let owner: { id: string; key: string; keyId: string };
let member: { id: string; key: string; keyId: string };
let stranger: { id: string; key: string; keyId: string };
let organization: string;
const RANGE = 'from=2026-03-28&until=2026-03-30';

beforeAll(async () => {
  service = await startTestServer();
  owner = await service.newUser();
  member = await service.newUser();
  stranger = await service.newUser();
  organization = await service.newOrganization(member.id);
  await addOrganizationMember(service.database.pool, organization, owner.id, 'owner');
  const event = (user: string, fields: object) => ({ kilo_user_id: user, cost: 10, ...fields });
  const models = Array.from(
    { length: 15 },
    (_, index) => `model-${String(index).padStart(2, '0')}`,
  );
  await service.ledger.recordUsageBatch([
    event(member.id, { created_at: '2026-03-28T23:30:00Z', model: 'a', has_error: true }),
    event(member.id, { created_at: '2026-03-29T00:59:59.999999Z', model: 'a', input_tokens: 7 }),
    event(member.id, { created_at: '2026-03-29T01:00:00Z', model: 'b', cost: 30 }),
    event(member.id, { created_at: '2026-03-20T12:00:00Z', model: 'old', cost: 5 }),
    event(member.id, {
      created_at: '2026-03-29T10:00:00Z',
      organization_id: organization,
      api_key_id: member.keyId,
      cost: 100,
    }),
    event(owner.id, { created_at: '2026-03-29T10:00:00Z', organization_id: organization, cost: 1 }),
    ...models.map((model, index) =>
      event(owner.id, { created_at: '2026-03-29T12:00:00Z', model, cost: 100 + index }),
    ),
  ]);
});
afterAll(() => service?.stop());

const report = (search: string, key: string | null) =>
  service.get(`/api/reports/usage?${search}`, key);

describe('GET /api/reports/usage', () => {
  it('sums by local periods: the hour that clocks skip is none', async () => {
    const { status, body } = await report(
      `${RANGE}&zone=Europe/Berlin&grain=hour&by=model`,
      member.key,
    );
    expect(status).toBe(200);
    expect(
      body.rows.map((row: { start: string; model: string }) => [row.start, row.model]),
    ).toEqual([
      ['2026-03-29T00:00:00+01:00', 'a'],
      ['2026-03-29T01:00:00+01:00', 'a'],
      ['2026-03-29T03:00:00+02:00', 'b'],
    ]);
    expect(body.total).toEqual({
      cost_microdollars: 50,
      requests: 3,
      errors: 1,
      input_tokens: 7,
      output_tokens: 0,
      cache_hit_tokens: 0,
      cache_write_tokens: 0,
    });
    expect(body.source).toMatchObject({ mode: 'rollup', server: 'primary' });
  });

  it('a midnight that comes twice begins its day the first time', async () => {
    const user = await service.newUser();
    // Clocks of the Azores show 23:59, 00:30 and, an hour later, 00:30 again.
    for (const [index, created_at] of ['25T23:59', '26T00:30', '26T01:30'].entries()) {
      const at = `2025-10-${created_at}:00Z`;
      await service.ledger.recordUsage({
        kilo_user_id: user.id,
        cost: 10 ** index,
        created_at: at,
      });
    }
    const costs = async (range: string) => {
      const { body } = await report(`${range}&zone=Atlantic/Azores`, user.key);
      return body.rows.map((row: { start: string; cost_microdollars: number }) => [
        row.start,
        row.cost_microdollars,
      ]);
    };
    expect(await costs('from=2025-10-25&until=2025-10-25')).toEqual([['2025-10-25', 1]]);
    expect(await costs('from=2025-10-26&until=2025-10-26')).toEqual([['2025-10-26', 110]]);
    expect(await costs('from=2025-10-26&until=2025-10-26&grain=hour')).toEqual([
      ['2025-10-26T00:00:00+00:00', 10],
      ['2025-10-26T00:00:00-01:00', 100],
    ]);
  });

  it('by day in UTC has the evening before apart', async () => {
    const { body } = await report(RANGE, member.key);
    expect(
      body.rows.map((row: { start: string; cost_microdollars: number }) => [
        row.start,
        row.cost_microdollars,
      ]),
    ).toEqual([
      ['2026-03-28', 10],
      ['2026-03-29', 40],
    ]);
  });

  // At any instant one of them has another day than UTC.
  it.each(['Pacific/Kiritimati', 'Pacific/Pago_Pago'])(
    'without a range ends with the today of the zone: %s',
    async (zone) => {
      const at = new Date();
      const model = `now-${zone}`;
      await service.ledger.recordUsage({
        kilo_user_id: owner.id,
        cost: 1,
        model,
        created_at: at.toISOString(),
      });
      const today = new Intl.DateTimeFormat('sv-SE', { timeZone: zone }).format(at);
      const { body } = await report(`zone=${zone}&by=model`, owner.key);
      expect(body.until >= today).toBe(true);
      const rows = body.rows.filter((row: { model: string }) => row.model === model);
      expect(rows).toMatchObject([{ start: today, cost_microdollars: 1 }]);
      expect(addDays(body.from, 29)).toBe(body.until);
    },
  );

  it.each(['UTC', 'Asia/Kolkata', 'America/Los_Angeles'])(
    'days that are asked for one by one add up to their range: %s',
    async (zone) => {
      const costOf = async (from: string, until: string) => {
        const { body } = await report(`from=${from}&until=${until}&zone=${zone}`, member.key);
        return body.total.cost_microdollars;
      };
      let sum = 0;
      for (const day of ['27', '28', '29', '30']) {
        sum += await costOf(`2026-03-${day}`, `2026-03-${day}`);
      }
      expect(sum).toBe(50);
      expect(await costOf('2026-03-27', '2026-03-30')).toBe(50);
    },
  );

  it('tells the largest apart, and the rest is other, with a true total', async () => {
    const { body } = await report(`${RANGE}&by=model&top=3`, owner.key);
    expect(body.rows.map((row: { model?: string }) => row.model ?? 'other')).toEqual([
      'model-12',
      'model-13',
      'model-14',
      'other',
    ]);
    expect(body.rows.at(-1)).toMatchObject({ other: true, requests: 12 });
    const sum = body.rows.reduce(
      (total: number, row: { cost_microdollars: number }) => total + row.cost_microdollars,
      0,
    );
    expect(sum).toBe(body.total.cost_microdollars);
    expect(sum).toBe(15 * 100 + (14 * 15) / 2);
  });

  it('compares with as many days before', async () => {
    const search = 'from=2026-03-25&until=2026-03-30&compare=previous';
    const { body } = await report(search, member.key);
    expect(body.previous).toMatchObject({
      from: '2026-03-19',
      until: '2026-03-24',
      total: { cost_microdollars: 5, requests: 1 },
      // Beside the day that comes six days later.
      rows: [{ start: '2026-03-26', cost_microdollars: 5, requests: 1 }],
    });
    expect(body.previous.rows[0]).not.toHaveProperty('other');
    expect(body.total.cost_microdollars).toBe(50);
    const hours = await report(`${search}&grain=hour&by=model&zone=Europe/Berlin`, member.key);
    // 13:00 in winter time stands beside 13:00, in the week before the clocks change.
    expect(hours.body.previous.rows).toMatchObject([{ start: '2026-03-26T13:00:00+01:00' }]);
    const months = await report(`${search}&grain=month`, member.key);
    expect(months.body.previous.rows).toMatchObject([{ start: '2026-03-01', requests: 1 }]);
  });

  it('answers CSV where that is accepted, formulas disarmed', async () => {
    await service.ledger.recordUsage({
      kilo_user_id: stranger.id,
      cost: 3,
      model: '=cmd()',
      created_at: '2026-03-29T10:00:00Z',
    });
    const answer = await service.call('GET', `/api/reports/usage?${RANGE}&by=model`, {
      key: stranger.key,
      headers: { accept: 'text/csv' },
    });
    expect(answer.headers.get('content-type')).toContain('text/csv');
    expect(answer.body).toBe(
      'start,model,other,cost_microdollars,requests,errors,input_tokens,output_tokens,' +
        'cache_hit_tokens,cache_write_tokens\n' +
        "2026-03-29,'=cmd(),,3,1,0,0,0,0,0\ntotal,,,3,1,0,0,0,0,0\n",
    );
  });

  it.each([
    ['zone=Mars/Base', 'zone', 'IANA'],
    ['zone=%2B02:00', 'zone', 'IANA'],
    ['zone=EST5EDT4,M3', 'zone', 'IANA'],
    ['grain=year', 'grain', 'hour, day, week, month'],
    ['by=colour', 'by', 'model, provider, key, project, member'],
    ['by=model,provider,key', 'by', 'at most two'],
    ['by=model,model', 'by', 'twice'],
    ['by=member', 'by', 'organization'],
    ['top=51', 'top', 'from 1 to 50'],
    ['top=x', 'top', 'from 1 to 50'],
    ['metric=love', 'metric', 'cost, requests, tokens'],
    ['from=2026-04-01&until=2026-03-01', 'from', 'swap'],
    ['from=2999-04-01', 'from', 'swap them, or make it later'],
    ['from=2014-12-31&until=2015-01-02', 'from', '2015-01-01 or later'],
    ['from=2026-02-30', 'from', 'a day like'],
    [
      'from=2026-01-01&until=2026-06-01&grain=hour',
      'until',
      'a range of 152 days; by hour at most 93 days',
    ],
    ['from=2020-01-01&until=2026-06-01', 'until', 'at most 1100 days'],
    ['from=2026-01-01&until=2026-03-30&grain=hour&by=model&top=50', 'top', 'must be at most'],
    ['colour=red', 'colour', 'known: from'],
    ['compare=maybe', 'compare', 'previous'],
    ['member=x', 'member', 'organization_id'],
    ['api_key_id=x', 'api_key_id', 'UUID'],
  ])('%s is refused: the field, and what is allowed', async (search, field, allowed) => {
    const { status, body } = await report(search, member.key);
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ code: 'invalid_request', details: { field } });
    expect(body.error.message).toContain(allowed);
  });
});

describe('whose usage', () => {
  const total = async (search: string, key: string) => {
    const { status, body } = await report(`${RANGE}&${search}`, key);
    return status === 200 ? body.total.cost_microdollars : [status, body.error.code];
  };

  it('an owner reads the organization, by member, a member and a key', async () => {
    expect(await total(`organization_id=${organization}`, owner.key)).toBe(101);
    const { body } = await report(`${RANGE}&organization_id=${organization}&by=member`, owner.key);
    expect(body.rows).toHaveLength(2);
    const one = `organization_id=${organization}&member=${member.id}`;
    expect(await total(one, owner.key)).toBe(100);
    expect(
      await total(`organization_id=${organization}&api_key_id=${member.keyId}`, owner.key),
    ).toBe(100);
  });

  it('a member reads their own part alone, a stranger nothing', async () => {
    expect(await total(`organization_id=${organization}`, member.key)).toEqual([403, 'forbidden']);
    const own = `organization_id=${organization}&member=${member.id}`;
    expect(await total(own, member.key)).toBe(100);
    const others = `organization_id=${organization}&member=${owner.id}`;
    expect(await total(others, member.key)).toEqual([403, 'forbidden']);
    for (const search of [own, others, `organization_id=${organization}`]) {
      expect(await total(search, stranger.key)).toEqual([403, 'forbidden']);
    }
    expect(await total(`kilo_user_id=${member.id}`, stranger.key)).toEqual([403, 'forbidden']);
  });

  it('a key stands for its payer, to its user and to the owner', async () => {
    const paying = await createApiKey(service.database.pool, {
      kilo_user_id: member.id,
      organization_id: organization,
      scopes: ['usage:read'],
    });
    await service.ledger.recordUsage({
      kilo_user_id: member.id,
      organization_id: organization,
      cost: 7,
      api_key_id: paying.id,
      created_at: '2026-03-28T10:00:00Z',
    });
    for (const key of [owner.key, member.key, paying.key, ADMIN_KEY]) {
      expect(await total(`api_key_id=${paying.id}`, key)).toBe(7);
    }
    expect(await total(`api_key_id=${paying.id}`, stranger.key)).toEqual([403, 'forbidden']);
    const { status, body } = await report(`${RANGE}&api_key_id=${randomUUID()}`, stranger.key);
    expect([status, body.error.code]).toEqual([403, 'forbidden']);
    expect(body.error.message).toMatch(/^api_key_id names no key of yours/);
    expect(await total(`api_key_id=${member.keyId}`, owner.key)).toEqual([403, 'forbidden']);
    expect(await total(`api_key_id=${member.keyId}`, member.key)).toBe(0);
  });

  it('who was removed reads nothing from that moment on', async () => {
    const former = await service.newUser();
    await addOrganizationMember(service.database.pool, organization, former.id, 'owner');
    expect(await total(`organization_id=${organization}`, former.key)).toBeGreaterThan(100);
    await service.database.pool.query(
      'delete from organization_memberships where kilo_user_id = $1',
      [former.id],
    );
    for (const own of ['', `&member=${former.id}`]) {
      const search = `organization_id=${organization}${own}`;
      expect(await total(search, former.key)).toEqual([403, 'forbidden']);
    }
  });

  it('a service key names whose; one that is limited reads that organization alone', async () => {
    const anyone = await service.newServiceKey(['usage:read']);
    expect(await total('', anyone)).toEqual([400, 'invalid_request']);
    expect(await total(`kilo_user_id=${owner.id}`, anyone)).toBe(1_605);
    const limited = await service.newServiceKey(['usage:read'], organization);
    expect(await total(`organization_id=${organization}`, limited)).toBeGreaterThan(100);
    expect(await total(`kilo_user_id=${owner.id}`, limited)).toEqual([403, 'forbidden']);
    const other = await service.newOrganization();
    expect(await total(`organization_id=${other}`, limited)).toEqual([403, 'forbidden']);
    const writer = await service.newUser(['usage:write']);
    expect(await total('', writer.key)).toEqual([403, 'forbidden']);
  });
});

describe('who is not there', () => {
  it.each([
    ['kilo_user_id=nobody', 'unknown_user', 'kilo_user_id'],
    ['kilo_user_id=nobody&all_scopes=true', 'unknown_user', 'kilo_user_id'],
    [`organization_id=${randomUUID()}`, 'unknown_organization', 'organization_id'],
    ['organization_id=$ORGANIZATION&member=nobody', 'unknown_user', 'member'],
    [`api_key_id=${randomUUID()}`, 'not_found', 'api_key_id'],
  ])('%s is refused by name, before anything is summed', async (search, code, field) => {
    const asked = search.replace('$ORGANIZATION', organization);
    const sums = async () =>
      (await service.get('/metrics', ADMIN_KEY)).body.match(/_count\{query="usageReport".*/g);
    const before = await sums();
    const { status, body } = await report(asked, ADMIN_KEY);
    expect([status, body.error.code, body.error.details]).toEqual([404, code, { field }]);
    expect(await sums()).toEqual(before);
  });

  it('an owner is told that a member is none; to others it is the refusal of any other user', async () => {
    const nobody = `organization_id=${organization}&member=nobody`;
    expect((await report(nobody, owner.key)).body.error.code).toBe('unknown_user');
    for (const key of [member.key, stranger.key]) {
      expect((await report(nobody, key)).body.error.code).toBe('forbidden');
      expect((await report('kilo_user_id=nobody', key)).body.error.code).toBe('forbidden');
    }
  });

  it('a deleted user is told: the usage stays', async () => {
    const gone = await service.newUser();
    await service.ledger.recordUsage({ kilo_user_id: gone.id, cost: 3 });
    await service.database.pool.query(
      'update kilocode_users set deleted_at = now() where id = $1',
      [gone.id],
    );
    const { body } = await report(`kilo_user_id=${gone.id}`, ADMIN_KEY);
    expect(body.total.cost_microdollars).toBe(3);
  });
});

it('usage.report answers the same', async () => {
  const input = { from: '2026-03-28', until: '2026-03-30', by: ['model'], zone: 'Asia/Kolkata' };
  const { body } = await service.query('usage.report', input, member.key);
  const http = await report(`${RANGE}&by=model&zone=Asia/Kolkata`, member.key);
  expect(body.result.data.rows).toEqual(http.body.rows);
  expect(body.result.data.total.cost_microdollars).toBe(50);
  const refused = await service.query('usage.report', { ...input, top: 0 }, member.key);
  expect(refused.status).toBe(400);
});

it('sums past 2^53 are exact, as text in JSON', async () => {
  const user = await service.newUser();
  const usage = { kilo_user_id: user.id, cost: 1, input_tokens: 2 ** 53 - 1 };
  await service.ledger.recordUsageBatch([usage, usage, usage]);
  const exact = String(3n * (2n ** 53n - 1n));
  const { body } = await report('', user.key);
  expect(body.total.input_tokens).toBe(exact);
  const trpc = await service.query('usage.report', {}, user.key);
  expect(trpc.body.result.data.total.input_tokens).toBe(exact);
});

it('a counter row past 2^63 is exact too, by numerics', async () => {
  const user = await service.newUser();
  await service.ledger.recordUsage({ kilo_user_id: user.id, cost: 1, model: 'a' });
  await service.ledger.recordUsage({ kilo_user_id: user.id, cost: 2, model: 'b' });
  await new DimensionFolder({ query: queryOnPool(service.database.pool, false) }).foldAll();
  const planted = 2n ** 70n;
  for (const { name, dimensions } of DIMENSION_ROLLUPS) {
    const condition = dimensions.includes('model') ? `model = 'b'` : 'true';
    await service.database.pool.query(
      `update ${name} set cache_write_tokens = $1 where kilo_user_id = $2 and ${condition}`,
      [String(planted), user.id],
    );
  }
  for (const search of [
    '',
    'by=model',
    'grain=hour',
    'zone=Asia/Kolkata&by=model',
    'compare=true',
  ]) {
    const { status, body } = await report(search, user.key);
    expect([search, status, body.total.cache_write_tokens]).toEqual([search, 200, String(planted)]);
    expect(body.total).toMatchObject({ cost_microdollars: 3, requests: 2 });
  }
});

it('the command prints the same, as a table, CSV and JSON', async () => {
  const run = (...argv: string[]) =>
    runCommand(
      { DATABASE_URL: service.database.url },
      ...['report', '--from', '2026-03-28', '--until', '2026-03-30', ...argv],
    );
  const table = await run('--user', member.id, '--by', 'model', '--compare');
  expect(table.stderr).toBe('');
  expect(table.stdout).toMatch(/2026-03-29 +b +0\.000030 USD +1 /);
  expect(table.stdout).toMatch(/total .*0\.000050 USD +3 +1 +7/);
  expect(table.stdout).toMatch(/before /);
  const csv = await run('--org', organization, '--by', 'member', '--format', 'csv');
  expect(csv.stdout.split('\n')[0]).toContain('start,kilo_user_id,other');
  const json = await run('--json', '--key', member.keyId);
  expect(JSON.parse(json.stdout)).toMatchObject({ rows: [], total: { cost_microdollars: 0 } });
  const both = await run('--user', member.id, '--format', 'csv', '--json');
  expect([both.status, JSON.parse(both.stdout).error.message]).toEqual([
    2,
    expect.stringContaining('leave out one of --format and --json'),
  ]);
  expect((await run('--user', member.id, '--zone', 'Mars/Base')).status).toBe(2);
  expect((await run()).status).toBe(2);
});

it('the command names keys and members beside their ids, and who has no name by id', async () => {
  const { pool } = service.database;
  const named = await service.newUser();
  await pool.query(`update kilocode_users set name = 'Ada =1+1' where id = $1`, [named.id]);
  const shop = await service.newOrganization(named.id);
  const laptop = await createApiKey(pool, {
    name: 'laptop',
    kilo_user_id: named.id,
    organization_id: shop,
    scopes: ['gateway'],
  });
  const created_at = '2026-03-29T10:00:00Z';
  const organization_id = shop;
  const gone = randomUUID();
  await service.ledger.recordUsageBatch([
    { kilo_user_id: named.id, organization_id, cost: 3, api_key_id: laptop.id, created_at },
    { kilo_user_id: named.id, organization_id, cost: 2, api_key_id: gone, created_at },
    { kilo_user_id: stranger.id, organization_id, cost: 1, created_at },
  ]);
  const run = (...argv: string[]) =>
    runCommand(
      { DATABASE_URL: service.database.url },
      ...['report', '--org', shop, '--from', '2026-03-29', '--until', '2026-03-29', ...argv],
    );
  const table = (await run('--by', 'key,member')).stdout;
  expect(table).toContain(`laptop (${laptop.id})  Ada =1+1 (${named.id})  0.000003 USD`);
  expect(table).toMatch(new RegExp(`  ${gone} +Ada =1\\+1 \\(`));
  expect(table).toMatch(new RegExp(`  - +${stranger.id} +0.000001 USD`));
  // From the same rows, but for when they were read.
  const twice = (await run('--by', 'key', '--by', 'member')).stdout;
  expect(twice.replace(/ as of .*/, '')).toBe(table.replace(/ as of .*/, ''));
  const { rows } = JSON.parse((await run('--json', '--by', 'key', '--top', '1')).stdout);
  expect(rows).toMatchObject([
    { api_key_id: laptop.id, api_key_name: 'laptop', cost_microdollars: 3 },
    { other: true, cost_microdollars: 3 },
  ]);
  expect(rows[1]).not.toHaveProperty('api_key_name');
  // Who is deleted has no name any more.
  await softDeleteUser(pool, named.id);
  expect((await run('--by', 'member')).stdout).toMatch(new RegExp(`  ${named.id} +0.000005 USD`));
});

it('the command refuses a payer that is not there, in the words of its options', async () => {
  const run = (...argv: string[]) =>
    runCommand({ DATABASE_URL: service.database.url }, 'report', ...argv);
  expect(await run()).toMatchObject({ status: 2, stderr: expect.stringContaining('--user <id>') });
  expect(await run('--user', 'a', '--org', organization)).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--member'),
  });
  expect(await run('--member', 'a')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--org'),
  });
  expect(await run('--user', 'nobody')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('--user names no user'),
  });
  expect(await run('--org', organization, '--member', 'nobody')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('--member names no user'),
  });
  expect((await run('--org', randomUUID())).status).toBe(1);
  expect(await run('--key', randomUUID())).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('no key with this id'),
  });
  const unpaying = await createApiKey(service.database.pool, { scopes: ['usage:read'] });
  expect(await run('--key', unpaying.id)).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('without a payer'),
  });
});
