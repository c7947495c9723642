import { randomUUID } from 'node:crypto';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createOrganization } from '../../src/accounts/organizations.js';
import { ADMIN_KEY } from '../integration/serverHarness.js';
import { findCutLabels, findFaults, type PageService, startPage, untilLoaded } from './harness.js';

/** What others choose, and what grows: long, hostile, many, tiny, enormous, old. */

const DAY_MS = 86_400_000;
const MODELS = 20_000;
const MODELS_COST = String(MODELS * 1_000 + ((MODELS - 1) * MODELS) / 2);
const LONG = `provider/${'very-long-model-name-'.repeat(8)}end`;
const OVERRIDE = 'gpt-4o \u202Eo4-tpg';
const ORGANIZATION_NAME = `<script>alert(1)</script> "quotes" \u202Edesrever`;

let service: PageService;
let tiny: { id: string; key: string };
let zero: { id: string; key: string };
let giant: { id: string; key: string };
let many: { id: string; key: string };

beforeAll(async () => {
  service = await startPage();
  const { ledger } = service;
  tiny = await service.newUser();
  zero = await service.newUser();
  giant = await service.newUser();
  many = await service.newUser();
  const at = (days: number) => new Date(Date.now() - days * DAY_MS - 60_000).toISOString();
  await ledger.recordUsageBatch([
    { kilo_user_id: tiny.id, cost: 12, model: LONG, created_at: at(1) },
    { kilo_user_id: tiny.id, cost: 7, model: OVERRIDE, created_at: at(2) },
    { kilo_user_id: zero.id, cost: 0, model: 'free', input_tokens: 10, created_at: at(1) },
    ...Array.from({ length: 6 }, (_, index) => ({
      kilo_user_id: giant.id,
      cost: 1_000_000_000_000,
      model: 'giant',
      created_at: at(index * 200),
    })),
  ]);
  const models = Array.from({ length: MODELS }, (_, index) => ({
    id: randomUUID(),
    kilo_user_id: many.id,
    cost: 1_000 + index,
    model: `model-${index}`,
  }));
  for (let at = 0; at < MODELS; at += 2_000) {
    await ledger.recordUsageBatch(models.slice(at, at + 2_000), { balance: false });
  }
  await createOrganization(ledger.pool, { name: ORGANIZATION_NAME }).then(({ id }) =>
    ledger.pool.query(
      'insert into organization_memberships (organization_id, kilo_user_id) values ($1, $2)',
      [id, tiny.id],
    ),
  );
  await ledger.pool.query(
    `with made as (
       insert into organizations (name)
       select 'Organization ' || to_char(n, 'FM000') from generate_series(1, 400) as n
       returning id
     )
     insert into organization_memberships (organization_id, kilo_user_id)
     select id, $1 from made`,
    [many.id],
  );
});
afterAll(() => service?.stop());

const open = (person: { key: string }, path = '/profile') =>
  service.open({ key: person.key, path });

const height = (page: Page) => page.evaluate(() => document.documentElement.scrollHeight);

describe('amounts', () => {
  it('of nothing are $0.00, and are no lack of usage', async () => {
    const { page, close } = await open(zero);
    await untilLoaded(page);
    expect(await page.locator('.spend-total data').textContent()).toBe('$0.00');
    await page.getByText('1 of 31 days with usage').waitFor();
    await expect.poll(() => page.getByText('No usage').count()).toBe(0);
    await expect
      .poll(() => page.locator('section[aria-label="Largest groups"] tbody tr').count())
      .toBe(1);
    await close();
  });

  it('of millionths can be read in total, axis, list, table and balance', async () => {
    const { page, close } = await open(tiny);
    await untilLoaded(page);
    expect(await page.locator('.spend-total data').textContent()).toBe('$0.000019');
    const axis = await page.locator('.chart-axes g text').allTextContents();
    expect(new Set(axis).size).toBe(axis.length);
    expect(await page.locator('.figure data').textContent()).toBe('-$0.000019');
    const listed = await page
      .locator('section[aria-label="Largest groups"] td data')
      .allTextContents();
    expect(listed).toEqual(expect.arrayContaining(['$0.000012', '$0.000007', '$0.000019']));
    expect(await page.locator('body').textContent()).not.toMatch(/[<>] -?\$/);
    await close();
  });

  it('that are enormous keep their labels whole, and years are on the axis', async () => {
    const [from, until] = [1_090, 0].map((days) =>
      new Date(Date.now() - days * DAY_MS).toISOString().slice(0, 10),
    );
    const { page, close } = await open(
      giant,
      `/profile?range=custom&from=${from}&until=${until}&grain=day`,
    );
    await untilLoaded(page);
    expect(await page.locator('.spend-total data').getAttribute('value')).toBe('6000000000000');
    for (const width of [1280, 375]) {
      await page.setViewportSize({ width, height: 860 });
      await page.waitForTimeout(100);
      const cut = await findCutLabels(page);
      expect([width, cut]).toEqual([width, []]);
      const months = await page.locator('.chart-axes > text').allTextContents();
      expect(months.length).toBeGreaterThan(1);
      expect(months.join()).toMatch(/20\d\d/);
    }
    await close();
  });
});

describe('names', () => {
  it('that are long are cut, and whole on hover and focus', async () => {
    const { page, close } = await open(tiny);
    await untilLoaded(page);
    const name = page.locator('section[aria-label="Largest groups"] .name', {
      hasText: 'very-long',
    });
    expect(await name.getAttribute('title')).toBe(LONG);
    const width = () => name.evaluate((element) => element.scrollWidth - element.clientWidth);
    expect(await width()).toBeGreaterThan(0);
    const cost = page.locator('section[aria-label="Largest groups"] tbody td').first();
    expect((await cost.boundingBox())?.x ?? 9_999).toBeLessThan(900);
    await name.focus();
    expect(await width()).toBeLessThanOrEqual(0);
    await close();
  });

  it('are kept apart from the text around them', async () => {
    const { page, problems, close } = await open(tiny);
    await untilLoaded(page);
    const names = await page
      .locator('.name')
      .evaluateAll((all) => all.map((name) => getComputedStyle(name).unicodeBidi));
    expect(names.length).toBeGreaterThan(3);
    expect(new Set(names)).toEqual(new Set(['isolate']));
    // The chip behind a name that turns the direction stays readable, at its right.
    const pair = page.locator('.pairs div', { hasText: 'script' });
    const name = await pair.locator('.name').boundingBox();
    const chip = await pair.locator('.chip').boundingBox();
    expect(await pair.locator('.chip').textContent()).toBe('member');
    expect(chip?.x ?? 0).toBeGreaterThanOrEqual((name?.x ?? 0) + (name?.width ?? 0) - 1);
    expect(problems).toEqual([]);
    await close();
  });
});

describe('what grows', () => {
  it('is bounded: 400 organizations and 20,000 models', async () => {
    const { page, close } = await open(many);
    await untilLoaded(page);
    const rows = page.locator('section[aria-label="Largest groups"] tbody tr');
    await expect.poll(() => rows.count()).toBe(11);
    expect(await rows.last().textContent()).toContain('Other');
    const total = page.locator('section[aria-label="Largest groups"] tfoot data');
    expect(await total.getAttribute('value')).toBe(MODELS_COST);
    await page.getByRole('button', { name: 'Tell more apart' }).click();
    await untilLoaded(page);
    await expect.poll(() => rows.count()).toBe(51);
    expect(await total.getAttribute('value')).toBe(MODELS_COST);
    await page.getByRole('heading', { name: 'Requests', exact: true }).scrollIntoViewIfNeeded();
    await page.locator('tr[data-request]').first().waitFor();
    expect(await height(page)).toBeLessThan(4_600);

    await page.getByLabel('Search balances').fill('organization 12');
    await expect
      .poll(() => page.locator('.pairs .name', { hasText: 'Organization' }).count())
      .toBe(6);

    await page.getByLabel('Search organizations').fill('399');
    await page.getByLabel('Scope').selectOption('\u2068Organization 399\u2069');
    await page.getByText('No usage in this range').waitFor();
    await close();
  });
});

describe('every view', () => {
  it("has a title of its own, and paths that are none the page's own 404", async () => {
    for (const [path, title, key] of [
      ['/profile', 'Usage', tiny.key],
      ['/start', 'First steps', tiny.key],
      ['/operations', 'Operations', ADMIN_KEY],
      ['/nonsense', 'Not found', tiny.key],
    ] as const) {
      const { page, close } = await service.open({ key, path });
      await page.waitForFunction((text) => document.title === text, `${title} · microdollar`);
      await close();
    }
    const { page, close } = await service.open({ path: '/no/such/path' });
    await page.getByRole('heading', { name: 'There is no such page' }).waitFor();
    await page.getByRole('link', { name: 'To the start' }).click();
    await page.waitForFunction(() => document.title === 'Sign in · microdollar');
    await close();
  });

  it('can be read on paper, and in colours that the user chose', async () => {
    const { page, close } = await open(tiny);
    await untilLoaded(page);
    /** Headings of cards that show nothing below them. */
    const bare = () =>
      page
        .locator('.below .card:visible')
        .filter({ hasNot: page.locator('tbody, .budget-meter, [data-alert]') })
        .count();
    // What was not looked at yet was not asked for.
    expect(await bare()).toBeGreaterThan(0);
    await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
    expect(await bare()).toBe(0);
    const printed = await page.evaluate(() => ({
      text: getComputedStyle(document.body).color,
      header: getComputedStyle(document.querySelector('.header') as Element).display,
      toolbar: getComputedStyle(document.querySelector('.toolbar') as Element).display,
    }));
    expect(printed).toEqual({ text: 'rgb(18, 23, 30)', header: 'none', toolbar: 'none' });
    await page.emulateMedia({ media: 'screen', forcedColors: 'active' });
    const [chosen, other] = await page.evaluate(() =>
      ['[data-selected]', ':not([data-selected])'].map(
        (state) =>
          getComputedStyle(document.querySelector(`.segment${state}`) as Element).backgroundColor,
      ),
    );
    expect(chosen).not.toBe(other);
    await page.locator('.switch').click();
    const [on, off] = await page.evaluate(() => [
      getComputedStyle(document.querySelector('.switch-track') as Element).backgroundColor,
      getComputedStyle(document.body).backgroundColor,
    ]);
    expect(on).not.toBe(off);
    await close();
  });

  it('holds long names and many groups without a barrier, on a narrow screen too', async () => {
    const { page, problems, close } = await open(tiny);
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Keys', exact: true }).scrollIntoViewIfNeeded();
    await untilLoaded(page);
    expect([...(await findFaults(page)), ...problems]).toEqual([]);
    await close();
  });
});

describe('a slow answer', () => {
  it('holds no other card', async () => {
    const { page, close } = await service.open({ key: ADMIN_KEY, path: '/start' });
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    await page.route('**/api/trpc/operations.coverage*', async (route) => {
      await held;
      await route.continue();
    });
    await page.getByRole('link', { name: 'Operations' }).click();
    await page.locator('.modes').waitFor();
    await page.locator('[data-testid=backfill-state]').waitFor();
    await page.getByText('Loading the coverage').waitFor();
    release();
    await page.locator('.calendar').waitFor();
    await close();
  });

  it('of the report, or none, leaves the balance and the lists where they are', async () => {
    const { page, close } = await service.open({ path: '/start' });
    let [release, isRefused] = [() => {}, false];
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    await page.route('**/api/trpc/usage.report*', async (route) => {
      await held;
      if (isRefused) await route.fulfill({ status: 503, body: 'away' });
      else await route.continue();
    });
    await page.evaluate((key) => sessionStorage.setItem('microdollar.key', key), tiny.key);
    await page.goto(`${service.url}/profile`);
    await page.getByText('Loading').first().waitFor();
    expect(await page.locator('.figure data').first().textContent()).toBe('-$0.000019');
    await page.getByRole('heading', { name: 'Requests', exact: true }).scrollIntoViewIfNeeded();
    await page.locator('tr[data-request]').first().waitFor();
    expect(await page.locator('.spend-total').count()).toBe(0);
    release();
    await page.locator('.spend-total').waitFor();
    isRefused = true;
    await page.getByRole('radio', { name: '7 days', exact: true }).click();
    await page.getByText('Usage is not available').waitFor();
    expect(await page.locator('.spend-total').count()).toBe(0);
    expect(await page.locator('.figure data').first().textContent()).toBe('-$0.000019');
    await close();
  });

  it('of a report keeps the height of the one before; one without usage has no blank in it', async () => {
    const { page, close } = await service.open({ key: (await service.newUser()).key });
    await page.getByText('No usage in this range').waitFor();
    await untilLoaded(page);
    const heights = () =>
      page.locator('.usage-body').evaluate((body) => {
        const last = body.lastElementChild?.getBoundingClientRect().bottom ?? 0;
        const { height, bottom } = body.getBoundingClientRect();
        return { height, blank: bottom - last };
      });
    const empty = await heights();
    expect(empty.blank).toBe(0);
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    await page.route('**/api/trpc/usage.report*', async (route) => {
      await held;
      await route.continue();
    });
    await page.getByRole('radio', { name: '7 days', exact: true }).click();
    await page.getByText('Loading usage').waitFor();
    expect(Math.abs((await heights()).height - empty.height)).toBeLessThan(1);
    release();
    await close();
  });
});
