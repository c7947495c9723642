import { beforeAll, describe, expect, it } from 'vitest';
import { useCli } from './cliHarness.js';

const cli = useCli();
const ID = '00000000-0000-4000-8000-000000000000';

beforeAll(async () => {
  await cli.ask('user', 'create', 'ada');
  await cli.ask('credit', 'add', '--user', 'ada', '10');
});

describe('budget', () => {
  it('is set, listed, raised and removed', async () => {
    const set = await cli.ask('budget', 'set', 'user', 'ada', '5', '--window', 'month');
    expect(set).toMatchObject({ status: 0, document: { limit_microdollars: 5_000_000 } });
    const { id } = set.document;
    const list = await cli.run('budget', 'list', '--user', 'ada');
    expect(list.stdout).toMatch(
      /balance +ada +total +10\.000000 +0\.000000 +0\.000000 +10\.000000 +-/,
    );
    expect(list.stdout).toMatch(new RegExp(`${id} +user +ada +month +5\\.000000`));
    const raised = await cli.ask('budget', 'raise', id, '1', '--until', '2999-01-01T00:00:00Z');
    expect(raised.document).toMatchObject({ limit_microdollars: 6_000_000 });
    expect((await cli.ask('budget', 'remove', id)).status).toBe(0);
    expect((await cli.ask('budget', 'remove', id)).document.error.code).toBe('not_found');
    expect((await cli.ask('budget', 'list')).document).toEqual({ budgets: [] });
  });

  it('of a member, and of a project, is listed with the organization that it is of', async () => {
    const org = (await cli.ask('org', 'create', 'acme')).document.id;
    await cli.ask('org', 'add-member', org, 'ada');
    for (const argv of [
      ['member', 'ada', '1'],
      ['project', 'search', '2'],
    ]) {
      const made = await cli.ask('budget', 'set', ...argv, '--window', 'day', '--org', org);
      expect(made.status).toBe(0);
    }
    const { stdout } = await cli.run('budget', 'list', '--org', org);
    expect(stdout).toMatch(new RegExp(`member +ada in ${org} +day`));
    expect(stdout).toMatch(new RegExp(`project +search of ${org} +day`));
    const { document } = await cli.ask('budget', 'list', '--org', org);
    for (const { id, is_balance } of document.budgets) {
      if (!is_balance) await cli.ask('budget', 'remove', id);
    }
  });

  it.each([
    [['set', 'user', 'ada', '-1', '--window', 'day']],
    // What rounds to zero would forbid all spending; 0 itself is a limit.
    [['set', 'user', 'ada', '0.0000004', '--window', 'day']],
    [['set', 'user', 'ada', '1e-9', '--window', 'day']],
    [['set', 'user', 'ada', '1']],
    [['set', 'user', 'ada', '1', '--window', 'year']],
    [['set', 'user', 'ada', '1', '--window', 'day', '--zone', 'nowhere']],
    [['set', 'project', 'p', '1', '--window', 'day']],
    [['list', '--user', 'ada', '--org', 'x']],
  ])('%j is a usage error', async (argv) => {
    expect((await cli.run('budget', ...argv)).status).toBe(2);
  });

  it('says that a balance is no budget to remove, and that a raise has ended', async () => {
    const { document } = await cli.ask('budget', 'list', '--user', 'ada');
    const removed = await cli.run('budget', 'remove', document.budgets[0].id);
    expect(removed).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^error: <budget> names no .* by credit/),
    });
    const set = await cli.ask('budget', 'set', 'user', 'ada', '5', '--window', 'week');
    const raise = (...argv: string[]) => cli.run('budget', 'raise', set.document.id, ...argv);
    const until = ['--until', '2999-01-01T00:00:00Z'];
    for (const argv of [['0', ...until], ['0']]) {
      expect((await raise('1', ...until)).stdout).toMatch(/^6\.000000 USD until 2999-01-01/);
      expect((await raise(...argv)).stdout).toBe('5.000000 USD, not raised\n');
    }
    expect((await raise('1')).stderr).toMatch(/^error: --until says when the raise ends/);
  });
});

describe('an error', () => {
  it.each([
    [['budget', 'set', 'user', 'ada', 'much', '--window', 'day'], /^error: <usd> must be/],
    [['budget', 'set', 'user', 'nobody', '1', '--window', 'day'], /^error: <id> names no user/],
    [
      ['budget', 'set', 'member', 'ada', '1', '--window', 'day'],
      /^error: --org names whose member it is/,
    ],
    [
      ['budget', 'set', 'project', 'p', '1', '--window', 'day'],
      /^error: --user or --org: name who pays/,
    ],
    [['budget', 'raise', ID, '1', '--until', '2999-01-01'], /^error: --until must be/],
    [['user', 'show', 'nobody'], /^error: <id> names no user; `user list` names those/],
    [['org', 'show', 'Acme'], /^error: <org> must be a UUID/],
    [['credit', 'add', '--org', 'Acme', '1'], /^error: --org must be a UUID/],
    [['adjust', 'x', '1'], /^error: <usage-id> must be a UUID/],
    [['adjust', ID, 'much'], /^error: <usd>: /],
    [['budget', 'set', 'user', 'ada', '1', '--window', 'year'], /^error: --window must be one of/],
    [['budget', 'set', 'world', 'ada', '1', '--window', 'day'], /^error: <scope> must be one of/],
    [
      ['budget', 'set', 'user', 'ada', '1', '--window', 'day', '--zone', 'nowhere'],
      /^error: --zone must be/,
    ],
    [['key', 'create', '--user', 'ada', '--scope', 'x'], /^error: --scope has "x"; allowed: /],
    [['report', '--user', 'ada', '--by', 'x'], /^error: --by must be one of/],
    [['report', '--user', 'ada', '--zone', 'nowhere'], /^error: --zone must be an IANA/],
    [['report', '--user', 'ada', '--from', 'x'], /^error: --from must be a day/],
    [
      ['report', '--user', 'ada', '--from', '2026-02-01', '--until', '2026-01-01'],
      /^error: --from lies after --until, 2026-01-01; swap them, or make it later/,
    ],
    [['archive', '--until', '2999-01-01', '--out', '/tmp'], /^error: --until must be a day/],
    [['export', '--from', 'x', '--until', 'x'], /^error: --from must be a UTC day/],
    [['alerts', 'set', 'x'], /^error: <kind> must be one of/],
    [['alerts', 'replay', 'nope'], /^error: <delivery> must be a UUID/],
    [['alerts', 'replay', ID], /^error: <delivery> names no delivery/],
    [['alerts', 'replay', '--webhook', 'nope'], /^error: --webhook must be a UUID/],
    [['alerts', 'webhook', 'test', ID], /^error: <webhook> names no webhook/],
  ])('of %j names what the command takes', async (argv, message) => {
    expect((await cli.run(...argv)).stderr).toMatch(message);
  });

  it('keeps the names of fields for programs', async () => {
    const { document } = await cli.ask('org', 'show', 'Acme');
    expect(document.error.details).toEqual({ field: 'organization_id' });
  });
});
