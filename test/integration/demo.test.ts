import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createUser } from '../../src/accounts/users.js';
import { demoUsers } from '../../src/demo/people.js';
import { dayOfTraffic } from '../../src/demo/traffic.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { useCli } from './cliHarness.js';

const cli = useCli();
const DEMO = ['demo', '--no-serve', '--days', '5', '--users', '9'] as const;

describe('demo', () => {
  it('fills a database exactly, and adds nothing at a second run', async () => {
    const first = await cli.ask(...DEMO);
    expect(first.status).toBe(0);
    expect(first.document).toMatchObject({ users: 9, organizations: 3, drift_keys: 0 });
    expect(first.document.recorded).toBeGreaterThan(500);
    expect(await checkInvariants(cli.database.pool)).toEqual([]);
    expect(await checkFolded(cli.database.pool)).toEqual([]);

    const second = await cli.ask(...DEMO);
    expect(second.document).toMatchObject({
      recorded: 0,
      duplicates: first.document.recorded,
      cost_microdollars: 0,
      keys: first.document.keys,
    });
    const more = await cli.ask('demo', '--no-serve', '--days', '6', '--users', '9');
    expect(more.document.duplicates).toBe(first.document.recorded);
    const { mode } = await stat(join(cli.dir, 'demo-keys.json'));
    expect(mode & 0o777).toBe(0o600);
  });

  it('has what a page must show: refunds, errors, caches, organizations, unpriced usage', async () => {
    const { rows } = await cli.database.pool.query(
      `select count(*) filter (where has_error) as errors,
         count(*) filter (where organization_id is not null) as organizations,
         count(*) filter (where cache_hit_tokens > 0) as cached,
         count(distinct model) as models, count(distinct project_id) as projects,
         count(distinct api_key_id) filter (
           where exists (select from api_keys as k where k.id = api_key_id and k.name is not null
             and k.kilo_user_id = u.kilo_user_id
             and k.organization_id is not distinct from u.organization_id
             and k.last_used_at >= u.created_at)) as keys
       from microdollar_usage as u`,
    );
    for (const [what, count] of Object.entries(rows[0])) {
      expect([what, Number(count) > 3]).toEqual([what, true]);
    }
    const days = Array.from({ length: 46 }, (_, index) =>
      new Date(Date.UTC(2026, 7, 1) + index * 86_400_000).toISOString().slice(0, 10),
    );
    const events = demoUsers(24).flatMap((user) => days.flatMap((day) => dayOfTraffic(user, day)));
    expect(events.filter(({ cost }) => cost < 0).length).toBeGreaterThan(10);
    expect(events.filter(({ metadata }) => metadata?.unpriced).length).toBeGreaterThan(5);
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
  });

  it('makes the same traffic every time, more of it on working days', () => {
    const [user] = demoUsers(1);
    if (user === undefined) throw new Error('no user');
    expect(dayOfTraffic(user, '2026-10-14')).toEqual(dayOfTraffic(user, '2026-10-14'));
    const countOf = (day: string) =>
      demoUsers(24).reduce((sum, each) => sum + dayOfTraffic(each, day).length, 0);
    expect(countOf('2026-10-14')).toBeGreaterThan(2 * countOf('2026-10-18'));
  });

  it('keeps out of a database that has users of its own', async () => {
    await createUser(cli.database.pool, { id: 'somebody' });
    const refused = await cli.ask(...DEMO);
    expect(refused.status).toBe(1);
    expect(refused.document.error).toMatchObject({ code: 'already_exists' });
    const agreed = await cli.ask(...DEMO, '--yes');
    expect(agreed.document.recorded).toBe(0);
  });

  it('refuses options that make no sense', async () => {
    expect((await cli.ask('demo', '--days', '0')).status).toBe(2);
    expect((await cli.ask('demo', '--users', 'many')).status).toBe(2);
  });
});
