import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startWebhookReceiver, type WebhookReceiver } from '../support/webhookReceiver.js';
import { runCommand, useCli } from './cliHarness.js';

const cli = useCli();
let receiver: WebhookReceiver;

beforeAll(async () => {
  receiver = await startWebhookReceiver();
  await cli.ask('user', 'create', 'ada');
  await cli.ask('credit', 'add', '--user', 'ada', '10');
});
afterAll(() => receiver.close());

/** Where private addresses are allowed. */
const run = (...argv: string[]) =>
  runCommand(
    {
      DATABASE_URL: cli.database.url,
      MICRODOLLAR_DATA_DIR: cli.dir,
      MICRODOLLAR_ALERTS_ALLOW_PRIVATE: 'true',
    },
    'alerts',
    ...argv,
  );
const ask = async (...argv: string[]) => JSON.parse((await run(...argv, '--json')).stdout);

describe('alerts', () => {
  it('are set, told at once where they are crossed, listed, and deleted', async () => {
    const hook = await ask('webhook', 'add', receiver.url);
    expect(hook.secret).toMatch(/^whsec_/);
    const set = await ask('set', 'balance', '--user', 'ada', '--below', '20');
    expect(set).toMatchObject({ below_microdollars: 20_000_000, has_webhook: true });
    const list = await run('list');
    expect(list.stdout).toMatch(new RegExp(`${set.id} +balance +ada +below 20\\.000000 USD +2`));
    const deliveries = await run('deliveries', '--user', 'ada');
    expect(deliveries.stdout).toMatch(/balance\.low +ada +20\.000000 USD +pending +0/);
    expect((await cli.run('status')).stdout).toMatch(/alerts +1 to be delivered/);
    expect((await run('deliveries', '--state', 'dead')).stdout).toBe('no deliveries\n');
    expect((await run('replay', '--webhook', hook.id)).stdout).toBe('0 to be tried again\n');
    const [{ id }] = (await ask('deliveries')).deliveries;
    expect(await ask('replay', id)).toEqual({ replayed: 0 });
    expect((await run('delete', set.id)).stdout).toBe(`deleted ${set.id}\n`);
    expect(await ask('list', '--user', 'ada')).toEqual({ alerts: [] });
    expect((await run('webhook', 'delete', hook.id)).status).toBe(0);
  });

  it('that nobody would be told of say so, with the command that adds a webhook', async () => {
    const org = (await cli.ask('org', 'create', 'Acme')).document.id;
    const noteOf = async (...of: string[]) =>
      (await run('set', 'balance', ...of, '--below', '1')).stderr;
    const note = (of: string) =>
      `no webhook is in use that would be told; \`alerts webhook add <url> ${of}\` adds one\n`;
    expect(await noteOf('--user', 'ada')).toBe(note('--user ada'));
    const own = await ask('webhook', 'add', receiver.url, '--org', org);
    expect(await noteOf('--org', org)).toBe('');
    expect(await noteOf('--user', 'ada')).toBe(note('--user ada'));
    await run('webhook', 'delete', own.id);
    expect(await noteOf('--org', org)).toBe(note(`--org ${org}`));
    const everybodys = await ask('webhook', 'add', receiver.url);
    expect(await noteOf('--user', 'ada')).toBe('');
    await run('webhook', 'delete', everybodys.id);
  });

  it('on a budget and on spend say at how much', async () => {
    const budget = await cli.ask('budget', 'set', 'user', 'ada', '5', '--window', 'month');
    const set = await run('set', 'budget', '--budget', budget.document.id, '--at', '90, 50');
    expect(set.stdout).toMatch(/budget +\S+ +at 50%, 90% +never/);
    const spend = await run('set', 'spend', '--user', 'ada', '--at', '500', '--floor', '2');
    expect(spend.stdout).toMatch(/at 500% of the usual, from 2\.000000 USD/);
  });
});

describe('a webhook', () => {
  it('is tested, rotated, listed without its secret, enabled', async () => {
    const hook = await ask('webhook', 'add', receiver.url, '--user', 'ada');
    expect((await run('webhook', 'test', hook.id)).stdout).toBe('answered 200\n');
    receiver.answerWith(500);
    expect(await run('webhook', 'test', hook.id)).toMatchObject({
      status: 1,
      stdout: 'answered 500\n',
    });
    // An empty variable of a shell is no 0, with which the old secret would sign no more.
    const slip = await run('webhook', 'rotate', hook.id, '--overlap-hours', '');
    expect([slip.status, slip.stderr]).toEqual([
      2,
      expect.stringMatching(/must be a number from 0/),
    ]);
    const rotated = await run('webhook', 'rotate', hook.id, '--overlap-hours', '0');
    expect(rotated.stdout).toMatch(
      /^secret, shown this once: whsec_\S+\nthe old one signs no more/,
    );
    const list = await run('webhook', 'list');
    expect(list.stdout).toMatch(new RegExp(`${hook.id} +ada +${receiver.url} +in use`));
    expect(list.stdout).not.toContain('whsec_');
    expect((await run('webhook', 'enable', hook.id)).status).toBe(0);
  });

  it('on a private address is refused, and the message names the way', async () => {
    const refused = await cli.run('alerts', 'webhook', 'add', 'https://10.0.0.1/hook');
    expect(refused).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/MICRODOLLAR_ALERTS_ALLOW_PRIVATE/),
    });
  });
});

describe('an error', () => {
  it.each([
    [['set', 'budget'], /^error: --budget names the budget/],
    [['set', 'balance', '--user', 'ada'], /^error: --below says how little is low/],
    [['set', 'spend', '--user', 'ada', '--at', 'much'], /^error: --at must be up to 10 whole/],
    [['set', 'balance', '--below', '1'], /^error: --user or --org: name exactly one/],
    [['delete', 'x'], /^error: <alert> must be a UUID/],
    [['replay'], /^error: name a delivery, or --webhook/],
    [['deliveries', '--limit', 'all'], /^error: --limit must be a whole number/],
  ])('of %j names what the command takes', async (argv, message) => {
    expect(await run(...argv)).toMatchObject({ status: 2, stderr: expect.stringMatching(message) });
  });
});
