import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { revokeApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { ADMIN_KEY } from '../integration/serverHarness.js';
import { findFaults, type PageService, startPage, untilLoaded } from './harness.js';

const DAY_MS = 86_400_000;
const ORGANIZATION_NAME = 'Acme';

let service: PageService;
let user: { id: string; key: string; keyId: string };
let other: { id: string; key: string };
let organization: string;
const today = new Date().toISOString().slice(0, 10);

beforeAll(async () => {
  service = await startPage();
  user = await service.newUser();
  other = await service.newUser();
  organization = await service.newOrganization(user.id);
  await addCredit(service.ledger.pool, { kilo_user_id: user.id, usd: '250.000001' });
  await record(user.id);
  await record(other.id);
});
afterAll(() => service?.stop());

/** Odd amounts on every third day of three months, two scopes, a refund and an error among them. */
async function record(kiloUserId: string): Promise<void> {
  const events = Array.from({ length: 90 }, (_, index) => ({
    id: randomUUID(),
    kilo_user_id: kiloUserId,
    organization_id: index % 5 === 0 && kiloUserId === user.id ? organization : null,
    created_at: new Date(Date.now() - Math.floor(index / 3) * 3 * DAY_MS - 60_000).toISOString(),
    model: ['gpt-5', 'claude-sonnet-4-5', 'gpt-5-mini'][index % 3] ?? null,
    input_tokens: 1_000 + index,
    output_tokens: 10 + index,
    cost: index === 7 ? -1_234_567 : index === 9 ? 0 : 1_000_001 + index * 777_777,
    has_error: index === 9,
  }));
  const results = await service.ledger.recordUsageBatch(events);
  expect(results.every(({ status }) => status === 'recorded')).toBe(true);
}

async function dailyOf(
  from: string,
  until: string,
  organizationId: string | null = null,
): Promise<Map<string, number>> {
  const answer = await service.query('usage.daily', { from, until, organizationId }, user.key);
  const rows: { usage_date: string; total_cost_microdollars: number }[] = answer.body.result.data;
  return new Map(rows.map((row) => [row.usage_date, row.total_cost_microdollars]));
}

function sumOf(daily: Map<string, number>): number {
  return [...daily.values()].reduce((sum, cost) => sum + cost, 0);
}

function dayBefore(days: number): string {
  return new Date(Date.parse(today) - days * DAY_MS).toISOString().slice(0, 10);
}

async function shownTotal(page: Page): Promise<number> {
  await page.locator('.spend:not(.switching)').waitFor();
  return Number(await page.locator('.spend-total data').getAttribute('value'));
}

/** Every day of the chart as the arrow keys read it. */
async function readChart(page: Page): Promise<Map<string, number>> {
  const chart = page.getByRole('slider');
  await chart.focus();
  const last = Number(await chart.getAttribute('aria-valuemax'));
  const read = new Map<string, number>();
  await page.keyboard.press('Home');
  for (let index = 0; index <= last; index++) {
    const amount = page.locator('.readout-amount');
    read.set(
      (await amount.getAttribute('data-day')) ?? '',
      Number(await amount.getAttribute('value')),
    );
    await page.keyboard.press('ArrowRight');
  }
  return read;
}

describe('signing in', () => {
  it('refuses a wrong key and keeps nothing of it, then takes the right one', async () => {
    const { page, problems, close } = await service.open();
    await page.getByLabel('Key').fill(`md_${'x'.repeat(43)}`);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('This key is wrong or was revoked').waitFor();
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);

    await page.getByLabel('Key').fill(user.key);
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Usage', exact: true }).waitFor();
    expect(await page.evaluate(() => sessionStorage.getItem('microdollar.key'))).toBe(user.key);
    const elsewhere = await page.evaluate(() => [localStorage.length, document.cookie]);
    expect(elsewhere).toEqual([0, '']);

    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByText('You are signed out').waitFor();
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
    expect(problems).toEqual([]);
    await close();
  });

  it('signs out when the key is revoked while the page is open', async () => {
    const leaver = await service.newUser();
    const { page, close } = await service.open({ key: leaver.key });
    await page.getByText('No usage yet').first().waitFor();
    await revokeApiKey(service.ledger.pool, leaver.keyId);
    await page.getByRole('radio', { name: '7 d', exact: true }).click();
    await page.getByText('the key is no longer accepted').waitFor();
    await close();
  });
});

describe('the profile', () => {
  it('shows chart, total and CSV equal to the API to the microdollar', async () => {
    const { page, problems, close } = await service.open({ key: user.key });
    await untilLoaded(page);
    const read = await readChart(page);
    const [from, until] = [[...read.keys()][0] ?? '', today];
    const daily = await dailyOf(from, until);
    expect(daily.size).toBeGreaterThan(25);
    expect([...read].filter(([, cost]) => cost !== 0)).toEqual([...daily]);
    expect(await shownTotal(page)).toBe(sumOf(daily));

    const waiting = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Download CSV' }).click();
    const download = await waiting;
    expect(download.suggestedFilename()).toBe(`microdollar-usage_${from}_${until}.csv`);
    const lines = (await readFile(await download.path(), 'utf8')).trimEnd().split('\r\n');
    expect(lines[0]).toBe('date_utc,scope,cost_microdollars,cost_usd');
    expect(lines.slice(1, -1).map((line) => line.split(',').slice(0, 3))).toEqual(
      [...read].map(([day, cost]) => [day, 'Personal', String(cost)]),
    );
    expect(lines.at(-1)?.split(',').slice(0, 3)).toEqual([
      'total',
      'Personal',
      String(sumOf(daily)),
    ]);
    expect(problems).toEqual([]);
    await close();
  });

  it('follows the range and the scope, also as a table', async () => {
    const { page, close } = await service.open({ key: user.key });
    await untilLoaded(page);
    for (const [name, days] of [
      ['7 d', 7],
      ['30 d', 30],
    ] as const) {
      await page.getByRole('radio', { name, exact: true }).click();
      await page.getByText(`of ${days} days with usage`).waitFor();
      expect(await shownTotal(page)).toBe(sumOf(await dailyOf(dayBefore(days - 1), today)));
    }
    await page.getByRole('radio', { name: 'Custom' }).click();
    await page.getByLabel('From').fill(dayBefore(10));
    await page.getByLabel('to', { exact: true }).fill(dayBefore(2));
    await page.getByText('of 9 days with usage').waitFor();
    expect(await shownTotal(page)).toBe(sumOf(await dailyOf(dayBefore(10), dayBefore(2))));
    await page.getByLabel('From').fill(dayBefore(1));
    await page.getByText('lies after the last').waitFor();

    await page.getByRole('radio', { name: '3 months' }).click();
    await page.getByLabel('Scope').selectOption(ORGANIZATION_NAME);
    await page.getByRole('radio', { name: 'Table' }).click();
    const daily = await dailyOf(dayBefore(93), today, organization);
    await page.waitForFunction(
      (total) => document.querySelector('.spend-total data')?.getAttribute('value') === total,
      String(sumOf(daily)),
    );
    const rows = await page
      .locator('tr[data-day]')
      .evaluateAll((all) =>
        all.map((row) => [
          row.getAttribute('data-day'),
          Number(row.querySelector('data')?.getAttribute('value')),
        ]),
      );
    expect(rows.filter(([, cost]) => cost !== 0).reverse()).toEqual([...daily]);
    await close();
  });

  it('shows a day by model that adds up to the day, and exact amounts on demand', async () => {
    const { page, close } = await service.open({ key: user.key });
    await untilLoaded(page);
    await page.getByRole('slider').focus();
    await page.keyboard.press('End');
    const shown = await page.locator('.readout-amount').getAttribute('value');
    await page.keyboard.press('Enter');
    const total = page.locator('.by-model tfoot data');
    await total.waitFor();
    expect(await total.getAttribute('value')).toBe(shown);
    expect(await total.textContent()).toMatch(/^-?\$[\d,]+\.\d{2}$/);
    await page.locator('.switch').click();
    expect(await total.textContent()).toMatch(/^-?\$[\d,]+\.\d{6}$/);
    await close();
  });

  it('shows balance and average as the API answers them', async () => {
    const { page, close } = await service.open({ key: user.key });
    await untilLoaded(page);
    const average = await service.query(
      'kiloPass.getAverageMonthlyUsageLast3Months',
      undefined,
      user.key,
    );
    const balance = await service.query('balance.current', undefined, user.key);
    expect(await page.getByTestId('average').getAttribute('value')).toBe(
      String(average.body.result.data.averageMonthlyUsageUsd),
    );
    expect(await page.locator('.figure data.amount').first().getAttribute('value')).toBe(
      String(balance.body.result.data.remaining_microdollars),
    );
    await page.getByText('answered from the rollup on the primary').waitFor();
    expect(await page.getByText('Refund').count()).toBe(1);
    expect(await page.getByText('Error', { exact: true }).count()).toBe(1);
    await close();
  });

  it("does not reach another user's data", async () => {
    const { page, close } = await service.open({
      key: user.key,
      path: `/profile?user=${other.id}`,
    });
    await page.getByText("another user's data is out of reach", { exact: false }).waitFor();
    const text = await page.locator('main').textContent();
    expect(text).not.toContain('$');
    expect(await page.getByRole('link', { name: 'Operations' }).count()).toBe(0);
    await page.goto(`${service.url}/operations`);
    await page.getByText('This key may not see operations').waitFor();
    await close();
  });

  it('keeps to UTC days wherever the browser is', async () => {
    for (const timezone of ['Pacific/Kiritimati', 'America/Los_Angeles']) {
      const { page, close } = await service.open({ key: user.key, timezone });
      await untilLoaded(page);
      await page.getByRole('radio', { name: '7 d', exact: true }).click();
      await page.getByText('of 7 days with usage').waitFor();
      const read = await readChart(page);
      const daily = await dailyOf(dayBefore(6), today);
      expect([...read.keys()]).toEqual(
        Array.from({ length: 7 }, (_, index) => dayBefore(6 - index)),
      );
      expect([...read].filter(([, cost]) => cost !== 0)).toEqual([...daily]);
      await close();
    }
  });

  it('opens on a machine without a language, where the browser names one that is none', async () => {
    for (const path of ['/profile', '/operations']) {
      const key = path === '/profile' ? user.key : ADMIN_KEY;
      const { page, problems, close } = await service.open({ key, path, language: 'en-US@posix' });
      await untilLoaded(page);
      await page.locator('.uplot').first().waitFor();
      expect(problems).toEqual([]);
      await close();
    }
  });

  it('says that a view could not be loaded, and opens it on another try', async () => {
    const { page, close } = await service.open({ path: '/start' });
    const program = '**/assets/ProfilePage-*.js';
    await page.route(program, (route) => route.abort());
    await page.evaluate((key) => sessionStorage.setItem('microdollar.key', key), user.key);
    await page.goto(`${service.url}/profile`);
    await page.getByText('This view could not be shown').waitFor();
    await page.unroute(program);
    await page.getByRole('button', { name: 'Try again' }).click();
    await untilLoaded(page);
    await page.locator('.uplot').first().waitFor();
    await close();
  });

  it('tells an operator without a user whose profile to name', async () => {
    const { page, close } = await service.open({ key: ADMIN_KEY, path: '/profile' });
    await page.getByLabel('User id').fill(other.id);
    await page.getByRole('button', { name: 'Show' }).click();
    await page.getByText(`${other.id} · days and times in UTC`).waitFor();
    await close();
  });
});

describe('what is sent to the browser', () => {
  it('is less than 250 kB of JavaScript, gzipped', async () => {
    const assets = join(service.directory, 'assets');
    const scripts = (await readdir(assets)).filter((name) => name.endsWith('.js'));
    let bytes = 0;
    for (const name of scripts) bytes += gzipSync(await readFile(join(assets, name))).length;
    expect(scripts.length).toBeGreaterThan(2);
    expect(bytes).toBeGreaterThan(50_000);
    expect(bytes).toBeLessThan(250_000);
  });
});

describe('a server that does not answer', () => {
  it('says so and goes on when it is back', async () => {
    const { page, close } = await service.open();
    await page.route('**/api/trpc/**', (route) => route.abort());
    await page.getByLabel('Key').fill(user.key);
    await page.keyboard.press('Enter');
    await page.getByText('the server does not answer').waitFor();
    await page.unroute('**/api/trpc/**');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByRole('heading', { name: 'Usage', exact: true }).waitFor();
    await close();
  });
});

describe('every view of a user', () => {
  it('has no serious barrier in light and dark, and fits a narrow screen', async () => {
    const newcomer = await service.newUser();
    for (const [key, path] of [
      [undefined, '/'],
      [undefined, '/start'],
      [user.key, '/profile'],
      [newcomer.key, '/profile'],
    ] as const) {
      const options = key === undefined ? { path } : { path, key };
      const { page, problems, close } = await service.open(options);
      await untilLoaded(page);
      if (key === user.key) {
        await page.getByRole('slider').press('End');
        await page.keyboard.press('Enter');
        await page.locator('.by-model table').waitFor();
      }
      expect([path, ...(await findFaults(page))]).toEqual([path]);
      expect([path, ...problems]).toEqual([path]);
      await close();
    }
  });

  it('would be told of faults: planted ones are found', async () => {
    const { page, problems, close } = await service.open();
    await untilLoaded(page);
    await page.evaluate(() => {
      const planted = document.createElement('button');
      planted.style.width = '1000px';
      document.querySelector('main')?.append(planted);
      const style = document.createElement('style');
      style.textContent = '.lead { color: #ddd }';
      document.head.append(style);
      document.querySelector<HTMLElement>('.lead')?.style.setProperty('color', '#ddd');
      void fetch('https://example.com/').catch(() => {});
    });
    const faults = await findFaults(page);
    expect(faults.join()).toMatch(/light button-name/);
    expect(faults.join()).toMatch(/light color-contrast/);
    expect(faults.join()).toMatch(/px too wide/);
    expect(problems.join()).toMatch(/Content Security Policy/);
    expect(problems.join()).toMatch(/foreign request|connect-src/);
    await close();
  });
});
