import { beforeAll, describe, expect, it } from 'vitest';
import { useCli } from './cliHarness.js';

const cli = useCli();

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

  it.each([
    [['set', 'user', 'ada', '-1', '--window', 'day']],
    [['set', 'user', 'ada', '1']],
    [['set', 'user', 'ada', '1', '--window', 'year']],
    [['set', 'user', 'ada', '1', '--window', 'day', '--zone', 'nowhere']],
    [['set', 'project', 'p', '1', '--window', 'day']],
    [['list', '--user', 'ada', '--org', 'x']],
  ])('%j is a usage error', async (argv) => {
    expect((await cli.run('budget', ...argv)).status).toBe(2);
  });
});
