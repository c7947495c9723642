import { randomUUID } from 'node:crypto';
import type { Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addCredit } from '../../src/accounts/credits.js';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { spend } from '../integration/alertHarness.js';
import { statementsDuring } from '../support/statementsDuring.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/webhookReceiver.js';
import { findFaults, type PageService, startPage, untilLoaded } from './harness.js';

type Person = { id: string; key: string; keyId: string };

let service: PageService;
let receiver: WebhookReceiver;
let owner: Person;
let member: Person;
let organization: string;
const needle = randomUUID();

beforeAll(async () => {
  receiver = await startWebhookReceiver();
  service = await startPage(
    { tiersUsd: [19, 49, 199] },
    { allowPrivateWebhooks: true, deliverAlerts: true },
  );
  const scopes = ['usage:write', 'usage:read', 'gateway'] as const;
  [owner, member] = [await service.newUser([...scopes]), await service.newUser([...scopes])];
  organization = await service.newOrganization(member.id);
  await addOrganizationMember(service.ledger.pool, organization, owner.id, 'owner');
  await addCredit(service.ledger.pool, { kilo_user_id: owner.id, usd: '250.000001' });
  const events = Array.from({ length: 70 }, (_, index) => ({
    id: index === 40 ? needle : randomUUID(),
    kilo_user_id: owner.id,
    cost: index === 40 ? 1_250 : index === 41 ? -2_000 : 10_000 * (index + 1),
    model: index === 40 ? 'needle-1' : `hay-${index % 3}`,
    has_error: index === 42,
    input_tokens: 1_234,
    output_tokens: 56,
    api_key_id: owner.keyId,
    created_at: new Date(Date.now() - index * 60_000).toISOString(),
    ...(index === 40
      ? {
          end_user: 'eve',
          session_id: 'session-1',
          project_id: 'project-x',
          tags: ['nightly'],
          metadata: { price_source: 'list', price_version: '2026-11', latency: 231 },
        }
      : {}),
  }));
  await service.ledger.recordUsageBatch(events);
  await service.ledger.recordUsageBatch(
    [3, 4].map((cost) => ({
      kilo_user_id: member.id,
      organization_id: organization,
      cost: cost * 1_000_000,
      model: 'shared',
    })),
  );
});
afterAll(async () => {
  await service?.stop();
  await receiver?.close();
});

const rows = 'tr[data-request]';

/** A frame later than what it waits for: ask until it is so. */
const hasFocus = (field: Locator) =>
  field.evaluate((element) => document.activeElement === element);

/** A part of the profile, by its heading. */
const card = (page: Page, name: string) => page.getByRole('region', { name, exact: true });

describe('the list of requests', () => {
  it('is paged and filtered, and the URL has it all', async () => {
    const { page, problems, close } = await service.open({
      key: owner.key,
      path: '/profile?range=7d',
    });
    await page.getByRole('heading', { name: 'Requests', exact: true }).scrollIntoViewIfNeeded();
    await page.locator(rows).first().waitFor();
    await expect.poll(() => page.locator(rows).count()).toBe(25);
    const first = await page.locator(rows).first().getAttribute('data-request');
    await page.getByRole('button', { name: 'Older' }).click();
    await page.waitForFunction(
      (id) => document.querySelector('tr[data-request]')?.getAttribute('data-request') !== id,
      first,
    );
    await page.getByRole('button', { name: 'Older' }).click();
    await page.waitForFunction(() => document.querySelectorAll('tr[data-request]').length === 20);
    await page.goBack();
    await page.goBack();
    await page.locator(`tr[data-request="${first}"]`).waitFor();

    await page.getByRole('searchbox', { name: 'Model' }).fill('NEEDLE');
    await page.keyboard.press('Enter');
    await page.locator(`tr[data-request="${needle}"]`).waitFor();
    await expect.poll(() => page.locator(rows).count()).toBe(1);
    expect(await page.locator(`${rows} data`).textContent()).toBe('$0.00125');
    await page.reload();
    await page.getByRole('heading', { name: 'Requests', exact: true }).scrollIntoViewIfNeeded();
    await page.locator(`tr[data-request="${needle}"]`).waitFor();
    await page.getByRole('button', { name: 'Clear' }).click();
    await page.waitForFunction(() => document.querySelectorAll('tr[data-request]').length === 25);

    for (const [status, chip] of [
      ['error', 'Error'],
      ['refund', 'Refund'],
    ] as const) {
      await page.getByLabel('Status').selectOption(status);
      await page.locator(`${rows} .chip`, { hasText: chip }).waitFor();
      await expect.poll(() => page.locator(rows).count()).toBe(1);
    }
    // Two changes before the page shows the first.
    await page.getByLabel('Key', { exact: true }).evaluate((key) => {
      const choose = (field: Element | null | undefined, index: number) => {
        (field as HTMLSelectElement).selectedIndex = index;
        field?.dispatchEvent(new Event('change', { bubbles: true }));
      };
      choose(key.closest('form')?.querySelector('[aria-label="Status"]'), 0);
      choose(key, 1);
    });
    await page.waitForFunction(() => document.querySelectorAll('tr[data-request]').length === 25);
    expect(new URL(page.url()).searchParams.get('rkey')).toBe(owner.keyId);
    await page.getByLabel('Cost from, $').fill('0.001');
    await page.getByLabel('to, $').fill('0.01');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelectorAll('tr[data-request]').length === 2);
    await page.getByLabel('to, $').fill('much');
    await page.keyboard.press('Enter');
    await page.getByText('an amount in USD').waitFor();
    await page.getByLabel('to, $').fill('0.0001');
    await page.keyboard.press('Enter');
    await page.getByText('The first cost is more than the second; swap them.').waitFor();
    expect(problems).toEqual([]);
    await close();
  });

  it('tells one in detail, and leads back to it', async () => {
    const { page, close } = await service.open({
      key: owner.key,
      path: '/profile?range=7d&rmodel=needle',
    });
    await page.getByRole('heading', { name: 'Requests', exact: true }).scrollIntoViewIfNeeded();
    const open = page.locator(`tr[data-request="${needle}"]`).getByRole('button');
    await open.click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('session-1').waitFor();
    const text = (await dialog.textContent()) ?? '';
    for (const part of [
      needle,
      '1,234',
      '$0.001250',
      'list',
      '2026-11',
      '231 ms',
      'eve',
      'project-x',
      'nightly',
    ]) {
      expect([part, text.includes(part)]).toEqual([part, true]);
    }
    expect(await findFaults(page, dialog)).toEqual([]);
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    await expect.poll(() => hasFocus(open)).toBe(true);
    await close();
  });

  it('says of a cost of 0 that no price is known, of a failed one too', async () => {
    const payer = await service.newUser();
    await service.ledger.recordUsageBatch(
      [false, true].map((has_error, index) => ({
        id: randomUUID(),
        kilo_user_id: payer.id,
        cost: 0,
        has_error,
        created_at: new Date(Date.now() - index * 60_000).toISOString(),
        metadata: { unpriced: true },
      })),
    );
    const { page, close } = await service.open({ key: payer.key, path: '/profile' });
    await page.getByRole('heading', { name: 'Requests', exact: true }).scrollIntoViewIfNeeded();
    const list = page.locator(rows);
    await list.first().waitFor();
    const statuses = await list.locator('td:nth-child(4)').allTextContents();
    expect(statuses).toEqual(['No price', 'Error No price']);
    await close();
  });
});

describe('keys', () => {
  it('are made, named, limited in scope, shown once, and revoked', async () => {
    const { page, problems, close } = await service.open({ key: owner.key });
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Keys', exact: true }).scrollIntoViewIfNeeded();
    // What is above it loads when it is seen, and moves it.
    await page.locator('tr[data-key]').first().waitFor();
    await untilLoaded(page);
    const form = page.getByRole('form', { name: 'New key' });
    await form.getByLabel('Name').fill('laptop');
    await form.getByLabel(/^usage:read/).check();
    await form.getByLabel(/^gateway/).uncheck();
    await form.getByRole('button', { name: 'Make a key' }).click();
    await form.getByText('Shown this once').waitFor();
    const made = (await form.locator('code').textContent()) ?? '';
    expect(made).toMatch(/^md_/);
    const session = await service.query('session.current', undefined, made);
    expect(session.body.result.data.scopes).toEqual(['usage:read']);

    const row = page.locator('tr[data-key]', { hasText: 'laptop' });
    await row.waitFor();
    expect(await row.textContent()).not.toContain(made);
    await row.getByRole('button', { name: 'Rename laptop' }).click();
    await page.getByLabel('New name').fill('desk');
    await page.keyboard.press('Enter');
    await page.locator('tr[data-key]', { hasText: 'desk' }).waitFor();
    await page.getByRole('button', { name: 'Revoke desk' }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Revoke' }).click();
    await page.locator('tr[data-key]', { hasText: 'desk' }).getByText('revoked').waitFor();
    expect((await service.query('session.current', undefined, made)).status).toBe(401);
    expect(problems).toEqual([]);
    await close();
  });

  it('offer no scope that the key in use has not', async () => {
    const reader = await service.newUser(['usage:read']);
    const { page, close } = await service.open({ key: reader.key });
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Keys', exact: true }).scrollIntoViewIfNeeded();
    await expect
      .poll(() => page.getByRole('form', { name: 'New key' }).getByRole('checkbox').count())
      .toBe(1);
    await page.getByText('never seen').or(page.getByText('just now')).first().waitFor();
    await close();
  });

  it('show what they paid for', async () => {
    const { page, close } = await service.open({ key: owner.key, path: '/profile?range=7d' });
    await untilLoaded(page);
    const whole = await page.locator('.spend-total data').getAttribute('value');
    await page.getByRole('heading', { name: 'Keys', exact: true }).scrollIntoViewIfNeeded();
    await page
      .locator(`tr[data-key="${owner.keyId}"]`)
      .getByRole('button', { name: /^What/ })
      .click();
    await page.getByText('Only key').waitFor();
    await untilLoaded(page);
    expect(await page.locator('.spend-total data').getAttribute('value')).toBe(whole);
    await close();
  });
});

describe('an organization', () => {
  it('shows its owner every member, and a member themselves alone', async () => {
    const path = `/profile?range=7d&scope=${organization}&by=member`;
    const asOwner = await service.open({ key: owner.key, path });
    await untilLoaded(asOwner.page);
    const total = asOwner.page.locator('.spend-total data');
    expect(await total.getAttribute('value')).toBe('7000000');
    await asOwner.page.getByRole('button', { name: `Only member ${member.id}` }).click();
    await untilLoaded(asOwner.page);
    expect(await total.getAttribute('value')).toBe('7000000');
    await asOwner.page
      .getByRole('heading', { name: 'Requests', exact: true })
      .scrollIntoViewIfNeeded();
    await asOwner.page.locator(rows).first().waitFor();
    await expect.poll(() => asOwner.page.locator(rows).count()).toBe(2);
    await asOwner.close();

    const asMember = await service.open({ key: member.key, path: path.replace('member', 'model') });
    await untilLoaded(asMember.page);
    expect(await asMember.page.locator('.spend-total data').getAttribute('value')).toBe('7000000');
    const choices = await asMember.page.getByLabel('Group by').locator('option').allTextContents();
    expect(choices).not.toContain('Member');
    await asMember.close();
    // Whoever writes the URL by hand is refused by the server.
    const peeking = await service.open({ key: member.key, path: `${path}&member=${owner.id}` });
    await peeking.page.getByText('Usage is not available').waitFor();
    await peeking.close();
  });
});

describe('members', () => {
  const path = () => `/profile?range=7d&scope=${organization}`;

  it('are added, made owners, told apart and removed by an owner', async () => {
    const newcomer = await service.newUser(['usage:read', 'usage:write', 'gateway']);
    const { page, problems, close } = await service.open({ key: owner.key, path: path() });
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Members', exact: true }).scrollIntoViewIfNeeded();
    const row = (id: string) => page.locator(`tr[data-member="${id}"]`);
    await row(member.id).waitFor();
    expect(await row(owner.id).textContent()).toContain('you');

    const form = page.getByRole('form', { name: 'New member' });
    await form.getByLabel('User id').fill('nobody');
    await form.getByRole('button', { name: 'Add' }).click();
    await form.getByText('There is no user with this id').waitFor();
    await form.getByLabel('User id').fill(newcomer.id);
    await page.keyboard.press('Enter');
    await row(newcomer.id).waitFor();
    expect(await form.getByLabel('User id').inputValue()).toBe('');
    await page.getByLabel(`Role of ${newcomer.id}`).selectOption('owner');
    await page.waitForFunction(
      (id) =>
        document.querySelector<HTMLSelectElement>(`tr[data-member="${id}"] select`)?.value ===
        'owner',
      newcomer.id,
    );
    const seen = await service.query(
      'members.list',
      { organization_id: organization },
      newcomer.key,
    );
    expect(seen.status).toBe(200);

    await row(member.id)
      .getByRole('button', { name: `What ${member.id} used` })
      .click();
    await untilLoaded(page);
    expect(new URL(page.url()).searchParams.get('member')).toBe(member.id);
    await page.getByRole('button', { name: 'Show every member' }).click();

    await page.getByRole('heading', { name: 'Members', exact: true }).scrollIntoViewIfNeeded();
    expect(await findFaults(page)).toEqual([]);
    await row(newcomer.id)
      .getByRole('button', { name: `Remove ${newcomer.id}` })
      .click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Remove' }).click();
    await row(newcomer.id).waitFor({ state: 'detached' });
    await page.getByLabel(`Role of ${owner.id}`).selectOption('member');
    await page.getByText('keeps an owner').waitFor();
    expect(await page.getByLabel(`Role of ${owner.id}`).inputValue()).toBe('owner');
    expect(problems).toEqual([]);
    await close();
  });

  it('are not shown to others, nor changed with a key that only reads', async () => {
    const asMember = await service.open({ key: member.key, path: path() });
    await untilLoaded(asMember.page);
    await expect
      .poll(() => asMember.page.getByRole('heading', { name: 'Members', exact: true }).count())
      .toBe(0);
    await asMember.close();
    const reader = await service.post('/api/keys', {
      kilo_user_id: owner.id,
      scopes: ['usage:read'],
    });
    const { page, close } = await service.open({ key: reader.body.key, path: path() });
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Members', exact: true }).scrollIntoViewIfNeeded();
    await page.locator(`tr[data-member="${member.id}"]`).waitFor();
    await page.getByText('sign in with a key that has usage:write and gateway').waitFor();
    await expect.poll(() => page.getByRole('button', { name: /^Remove/ }).count()).toBe(0);
    await close();
  });
});

interface ListedBudget {
  id: string;
  is_balance: boolean;
  set_by: string;
  limit_microdollars: number;
  held_microdollars: number;
  overshoot_microdollars: number;
}

async function budgetsOf(key: string, of: object = {}): Promise<ListedBudget[]> {
  const { body } = await service.query('budgets.list', of, key);
  return body.result.data.budgets.filter(({ is_balance }: ListedBudget) => !is_balance);
}

async function openBudgets(page: Page): Promise<void> {
  await untilLoaded(page);
  await page.getByRole('heading', { name: 'Budgets', exact: true }).scrollIntoViewIfNeeded();
  await page.getByText('No budgets').or(page.locator('[data-budget]')).first().waitFor();
}

const microdollarsOf = (row: Locator, text: string) =>
  row.locator('.budget-use data').filter({ hasText: text }).getAttribute('value');

describe('budgets', () => {
  it('of a user are set, shown against their limit, changed, raised and removed', async () => {
    const { page, problems, close } = await service.open({
      key: owner.key,
      path: '/profile?scope=personal',
    });
    await openBudgets(page);
    await page.getByRole('button', { name: 'New budget' }).click();
    const form = page.getByRole('form', { name: 'New budget' });
    await form.getByLabel('Limits').selectOption('key');
    await form.getByLabel('Key', { exact: true }).selectOption(owner.keyId);
    await form.getByLabel('Limit, $').fill('much');
    await page.keyboard.press('Enter');
    await form.getByText('Must be an amount in USD').waitFor();
    const limit = form.getByLabel('Limit, $');
    await expect.poll(() => hasFocus(limit)).toBe(true);
    expect(await limit.getAttribute('aria-invalid')).toBe('true');
    await form.getByLabel('Limit, $').fill('$0.5');
    await form.getByLabel('Of time zone').fill('Mars/Olympus');
    await page.keyboard.press('Enter');
    await form.getByText('Must be an IANA time zone').waitFor();
    expect(await findFaults(page, card(page, 'Budgets'))).toEqual([]);
    await form.getByLabel('Of time zone').fill('Asia/Tokyo');
    await form.getByLabel('Per').selectOption('total');
    await form.getByRole('button', { name: 'Set the budget' }).click();
    const row = page.locator('[data-budget]');
    await row.waitFor();
    const [over] = await budgetsOf(owner.key);
    expect(over?.overshoot_microdollars).toBeGreaterThan(0);
    await row.getByText('over', { exact: true }).waitFor();
    await row.getByText('it does not reset').waitFor();
    expect(await row.locator('.budget-excess data').getAttribute('value')).toBe(
      String(over?.overshoot_microdollars),
    );
    expect(await row.getByRole('img').getAttribute('aria-label')).toMatch(
      /% of the limit used: over/,
    );
    expect(await findFaults(page, card(page, 'Budgets'))).toEqual([]);

    await row.getByRole('button', { name: /^Change/ }).click();
    await row.getByLabel('Limit, $').fill('1000');
    await row.getByLabel('When used up').selectOption('soft');
    await row.getByRole('button', { name: 'Save' }).click();
    await row.getByText('soft: refuses nothing').waitFor();
    // The focus is back at what opened the form.
    await page.keyboard.press('Enter');
    await row.getByLabel('When used up').selectOption('hard');
    await row.getByRole('button', { name: 'Save' }).click();
    await row.getByText('soft: refuses nothing').waitFor({ state: 'detached' });
    const hold = { kilo_user_id: owner.id, api_key_id: owner.keyId, amount: 1_234_567 };
    expect((await service.post('/api/holds', hold, owner.key)).status).toBe(200);
    await page.reload();
    await openBudgets(page);
    await row.getByText('held').waitFor();
    const [held] = await budgetsOf(owner.key);
    expect(held?.held_microdollars).toBe(1_234_567);
    expect(await microdollarsOf(row, '$1.23')).toBe('1234567');
    // Held apart from used: what is left of the balance has it still.
    const balance = page.locator('.card', { hasText: 'Held for requests in flight' });
    expect(await balance.locator('dd data').nth(1).getAttribute('value')).toBe('1234567');
    const account = await service.query('balance.current', undefined, owner.key);
    const { remaining_microdollars, microdollars_used, total_microdollars_acquired } =
      account.body.result.data;
    expect(remaining_microdollars).toBe(total_microdollars_acquired - microdollars_used);

    await row.getByRole('button', { name: /^Raise/ }).click();
    await row.getByLabel('Add, $').fill('5');
    await row.getByLabel(/^Until/).fill('2020-01-01T00:00');
    await row.getByRole('button', { name: 'Raise', exact: true }).click();
    await row.getByText('Lies in the past').waitFor();
    await row.getByLabel(/^Until/).fill('2999-01-01T09:00');
    await row.getByRole('button', { name: 'Raise', exact: true }).click();
    await row.getByText('Raised by $5.00 until 1 Jan 2999, 09:00').waitFor();
    expect((await budgetsOf(owner.key))[0]).toMatchObject({
      limit_microdollars: 1_005_000_000,
      raise_until: '2999-01-01T00:00:00.000000Z',
    });
    await row.getByRole('button', { name: /^End the raise/ }).click();
    await row.getByRole('button', { name: /^Raise/ }).waitFor();
    expect((await budgetsOf(owner.key))[0]?.limit_microdollars).toBe(1_000_000_000);
    await row.getByRole('button', { name: /^Remove/ }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Remove' }).click();
    await page.getByText('No budgets').waitFor();
    expect(await budgetsOf(owner.key)).toEqual([]);
    expect(problems).toEqual([]);
    await close();
  });

  it('of an organization are its owner’s; a member sees what limits them, and sets their own', async () => {
    const path = `/profile?scope=${organization}`;
    const of = { organization_id: organization };
    const asOwner = await service.open({ key: owner.key, path });
    await openBudgets(asOwner.page);
    for (const [limits, id] of [
      ['organization', null],
      ['member', 'nobody'],
      ['member', member.id],
    ] as const) {
      const form = asOwner.page.getByRole('form', { name: 'New budget' });
      if (!(await form.isVisible())) {
        await asOwner.page.getByRole('button', { name: 'New budget' }).click();
      }
      await form.getByLabel('Limits').selectOption(limits);
      if (id !== null) await form.getByLabel('User id of the member').fill(id);
      await form.getByLabel('Limit, $').fill('7');
      await form.getByRole('button', { name: 'Set the budget' }).click();
      if (id === 'nobody') await form.getByText('Names no user').waitFor();
      else await form.waitFor({ state: 'detached' });
    }
    await expect.poll(() => asOwner.page.locator('[data-budget]').count()).toBe(2);
    const balance = await service.query('balance.current', undefined, owner.key);
    const [acme] = balance.body.result.data.organizations;
    expect(await asOwner.page.locator('.figure data.amount').first().getAttribute('value')).toBe(
      String(acme.remaining_microdollars),
    );
    await expect
      .poll(() => asOwner.page.getByRole('heading', { name: 'Average monthly usage' }).count())
      .toBe(0);
    await asOwner.close();

    const asMember = await service.open({ key: member.key, path });
    await openBudgets(asMember.page);
    const rows = asMember.page.locator('[data-budget]');
    await expect.poll(() => rows.count()).toBe(1);
    await rows.getByText('It was set by an owner').waitFor();
    expect(await rows.getByRole('button').count()).toBe(0);
    await asMember.page.getByRole('button', { name: 'New budget' }).click();
    const form = asMember.page.getByRole('form', { name: 'New budget' });
    await form.getByLabel('Limit, $').fill('3');
    expect(await findFaults(asMember.page, card(asMember.page, 'Budgets'))).toEqual([]);
    await form.getByRole('button', { name: 'Set the budget' }).click();
    await expect.poll(() => rows.count()).toBe(2);
    await expect.poll(() => rows.getByRole('button', { name: /^Change/ }).count()).toBe(1);
    expect((await budgetsOf(member.key, of)).map(({ set_by }) => set_by)).toEqual([
      'owner',
      'user',
    ]);
    expect(asMember.problems).toEqual([]);
    await asMember.close();
  });

  it('that is set again keeps zone and mode, shows them, and changes those that are chosen', async () => {
    const kept = { time_zone: 'Asia/Tokyo', is_hard: false };
    const budget = { scope: 'user', id: owner.id, window: 'week', time_zone: 'Asia/Tokyo' };
    const made = await service.post(
      '/api/budgets',
      { ...budget, limit_usd: 3, mode: 'soft' },
      owner.key,
    );
    expect(made.body).toMatchObject(kept);
    const { page, close } = await service.open({
      key: owner.key,
      path: '/profile?scope=personal',
    });
    await openBudgets(page);
    const form = page.getByRole('form', { name: 'New budget' });
    const setAgain = async (usd: string, change: () => Promise<unknown>) => {
      await page.getByRole('button', { name: 'New budget' }).click();
      expect(await form.getByLabel('Of time zone').inputValue()).toBe('UTC');
      await form.getByLabel('Per').selectOption('week');
      await form.getByText('It is set already').waitFor();
      await expect.poll(() => form.getByLabel('Of time zone').inputValue()).toBe('Asia/Tokyo');
      expect(await form.getByLabel('When used up').inputValue()).toBe('soft');
      await change();
      await form.getByLabel('Limit, $').fill(usd);
      await form.getByRole('button', { name: 'Set the budget' }).click();
      await form.waitFor({ state: 'detached' });
    };
    await setAgain('4', async () => {});
    expect(await budgetsOf(owner.key)).toMatchObject([{ ...kept, limit_microdollars: 4_000_000 }]);
    await setAgain('5', () => form.getByLabel('When used up').selectOption('hard'));
    expect(await budgetsOf(owner.key)).toMatchObject([
      { time_zone: 'Asia/Tokyo', is_hard: true, limit_microdollars: 5_000_000 },
    ]);
    await close();
  });

  it('are read alone with a key that only reads', async () => {
    const { body } = await service.post('/api/keys', {
      kilo_user_id: owner.id,
      scopes: ['usage:read'],
    });
    const { page, close } = await service.open({ key: body.key });
    await openBudgets(page);
    await page.getByText('sign in with a key that has usage:write or gateway').waitFor();
    await expect.poll(() => page.getByRole('button', { name: 'New budget' }).count()).toBe(0);
    await close();
  });
});

describe('alerts', () => {
  it('are set, sent to a webhook whose secret is shown once, given up, and sent again', async () => {
    const watched = await service.newUser(['usage:read', 'usage:write', 'gateway']);
    const budget = { scope: 'user', id: watched.id, limit_usd: 1, window: 'month' };
    expect((await service.post('/api/budgets', budget, watched.key)).status).toBe(201);
    const { page, problems, close } = await service.open({ key: watched.key });
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Alerts', exact: true }).scrollIntoViewIfNeeded();
    await page.getByText('Nothing was told yet').waitFor();

    await page.getByRole('button', { name: 'New alert' }).click();
    const form = page.getByRole('form', { name: 'New alert' });
    await form.getByLabel('Tell when').selectOption('budget');
    await form.getByLabel('At percent').fill('none');
    await page.keyboard.press('Enter');
    await form.getByText('Must be up to 10 whole numbers').waitFor();
    await form.getByLabel('At percent').fill('50, 80%');
    await page.keyboard.press('Enter');
    await page.locator('[data-alert]', { hasText: 'You, $1.00 a month: at 50%, 80%' }).waitFor();
    await page.getByRole('button', { name: 'New alert' }).click();
    await form.getByLabel('Tell when').selectOption('balance');
    await form.getByLabel('Less is left than, $').fill('-1');
    await page.keyboard.press('Enter');
    await form.getByText('Must not be negative').waitFor();
    expect(await findFaults(page, card(page, 'Alerts'))).toEqual([]);
    await form.getByRole('button', { name: 'Cancel' }).click();

    const hooks = page.getByRole('region', { name: 'Webhooks' });
    await hooks.getByLabel('URL (https)').fill('ftp://nowhere');
    await page.keyboard.press('Enter');
    await hooks.locator('.field-problem').waitFor();
    await hooks.getByLabel('URL (https)').fill(receiver.url);
    await page.keyboard.press('Enter');
    await hooks.getByText('Shown this once').waitFor();
    const secret = (await hooks.locator('code').textContent()) ?? '';
    expect(secret).toMatch(/^whsec_/);
    await hooks.getByRole('button', { name: /^Send a test/ }).click();
    await hooks.getByText('The test was delivered: HTTP 200').waitFor();
    expect(await findFaults(page, hooks)).toEqual([]);

    receiver.answerWith(410);
    await spend(service.ledger, watched.id, 600_000);
    await page.reload();
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Alerts', exact: true }).scrollIntoViewIfNeeded();
    const row = page.locator('[data-delivery]');
    await row.getByText('given up').waitFor();
    expect(await row.textContent()).toContain('You, $1.00 a month: 50%, $0.60 spent');
    expect(await row.textContent()).toContain('HTTP 410');
    expect(await page.locator('main').textContent()).not.toContain(secret);
    expect(await findFaults(page, card(page, 'Alerts'))).toEqual([]);
    receiver.answerWith(200);
    await hooks.getByRole('button', { name: /^Enable/ }).click();
    await hooks.getByText('disabled', { exact: true }).waitFor({ state: 'detached' });
    await row.getByRole('button', { name: /^Send again/ }).click();
    await row.getByText('delivered').waitFor();

    await hooks.getByRole('button', { name: /^New secret/ }).click();
    await hooks.getByText('The secret before signs as well').waitFor();
    await hooks.getByRole('button', { name: /^Remove/ }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Remove' }).click();
    await page.getByText('No webhooks').waitFor();
    await page.getByRole('button', { name: /^Remove the alert/ }).click();
    await page.getByText('No alerts').waitFor();
    expect(problems).toEqual([]);
    await close();
  });

  it('of an organization are its owner’s to see', async () => {
    for (const [who, shown] of [
      [owner, 1],
      [member, 0],
    ] as const) {
      const { page, close } = await service.open({
        key: who.key,
        path: `/profile?scope=${organization}`,
      });
      await openBudgets(page);
      await expect
        .poll(() => page.getByRole('heading', { name: 'Alerts', exact: true }).count())
        .toBe(shown);
      await close();
    }
  });
});

describe('a member', () => {
  it('leaves an organization, after a question, and sees nothing of it any more', async () => {
    const leaver = await service.newUser(['usage:read', 'usage:write', 'gateway']);
    await addOrganizationMember(service.ledger.pool, organization, leaver.id);
    const { page, problems, close } = await service.open({
      key: leaver.key,
      path: `/profile?scope=${organization}`,
    });
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Membership' }).scrollIntoViewIfNeeded();
    await page.getByRole('button', { name: 'Leave', exact: true }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Cancel' }).click();
    await page.getByRole('button', { name: 'Leave', exact: true }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Leave' }).click();
    await page.getByText('You left').waitFor();
    await untilLoaded(page);
    await expect.poll(() => page.getByLabel('Scope').count()).toBe(0);
    expect(new URL(page.url()).searchParams.get('scope')).toBeNull();
    const seen = await service.query('budgets.list', { organization_id: organization }, leaver.key);
    expect(seen.status).toBe(403);
    expect(problems).toEqual([]);
    await close();
  });
});

/** Until the browser has told of what is on the screen as it is drawn now. */
const untilLookedFor = (page: Page) =>
  page.evaluate(
    () =>
      new Promise<void>((told) => {
        requestAnimationFrame(() => new IntersectionObserver(() => told()).observe(document.body));
      }),
  );

describe('opening the profile', () => {
  // The report of who has used nothing is short, and so is the page until it says that they are new.
  it.each(['before', 'after'])(
    'asks the database at most four times, with the account %s the report',
    async (order) => {
      const fresh = await service.newUser();
      const { page, close } = await service.open({ key: fresh.key, path: '/favicon.svg' });
      const [first, second] =
        order === 'before'
          ? ['profile.account', 'usage.report']
          : ['usage.report', 'profile.account'];
      const drawn =
        order === 'before'
          ? page.getByRole('region', { name: 'No usage yet' })
          : page.getByText('No usage in this range');
      await page.route(`**/api/trpc/${second}*`, async (route) => {
        await drawn.waitFor();
        await untilLookedFor(page);
        await route.continue();
      });
      const asked = await statementsDuring(service.ledger.pool, async () => {
        const answered = page.waitForResponse((answer) => answer.url().includes(`/${first}`));
        await page.goto(`${service.url}/profile`);
        expect((await answered).status()).toBe(200);
        await page.getByRole('region', { name: 'No usage yet' }).waitFor();
        await page.getByText('No usage in this range').waitFor();
        await untilLoaded(page);
        await close();
      });
      expect(asked.length).toBeGreaterThan(2);
      const names = asked.map(({ text }) => /\/\* (.+?) \*\//.exec(text)?.[1] ?? text);
      expect(names.slice(4)).toEqual([]);
      // Nothing of what is below the screen.
      expect(names).not.toContain('accounts.listKeysOf');
    },
  );
});

describe('tiers', () => {
  it('are shown where they are configured, with the average as the API has it', async () => {
    const { page, close } = await service.open({ key: owner.key });
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Average monthly usage' }).scrollIntoViewIfNeeded();
    const average = await service.query(
      'kiloPass.getAverageMonthlyUsageLast3Months',
      {},
      owner.key,
    );
    expect(await page.getByTestId('average').getAttribute('value')).toBe(
      String(average.body.result.data.averageMonthlyUsageUsd),
    );
    const balance = await service.query('balance.current', undefined, owner.key);
    expect(await page.locator('.figure data.amount').first().getAttribute('value')).toBe(
      String(balance.body.result.data.remaining_microdollars),
    );
    await close();
  });
});
