import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { forecastMonth, forecastRange } from '../../src/web/usage/forecast.js';
import { findFaults, type PageService, startPage, untilLoaded } from './harness.js';

const DAY_MS = 86_400_000;
const MODELS = ['gpt-5', 'claude-sonnet-4-5', 'gpt-5-mini', null];
const PROJECTS = ['shop', 'search', null];

let service: PageService;
let user: { id: string; key: string; keyId: string };
let organization: string;
const today = new Date().toISOString().slice(0, 10);

beforeAll(async () => {
  service = await startPage();
  user = await service.newUser();
  organization = await service.newOrganization(user.id);
  const events = Array.from({ length: 120 }, (_, index) => ({
    id: randomUUID(),
    kilo_user_id: user.id,
    organization_id: index % 5 === 0 ? organization : null,
    created_at: new Date(Date.now() - Math.floor(index / 3) * 3 * DAY_MS - 60_000).toISOString(),
    model: MODELS[index % 4] ?? null,
    provider: index % 2 === 0 ? 'openai' : 'anthropic',
    project_id: PROJECTS[index % 3] ?? null,
    api_key_id: index % 2 === 0 ? user.keyId : null,
    input_tokens: 1_000 + index,
    output_tokens: 10 + index,
    cost: index === 7 ? -1_234_567 : index === 9 ? 0 : 1_000_001 + index * 777_777,
    has_error: index === 9,
  }));
  const results = await service.ledger.recordUsageBatch(events);
  expect(results.every(({ status }) => status === 'recorded')).toBe(true);
});
afterAll(() => service?.stop());

interface Row {
  start: string;
  cost_microdollars: number;
  requests: number;
  input_tokens: number;
  output_tokens: number;
  model?: string | null;
  api_key_id?: string | null;
  provider?: string | null;
  project_id?: string | null;
}

async function reportOf(
  query: object,
): Promise<{ rows: Row[]; total: Row; previous?: { rows: Row[]; total: Row } }> {
  // As the page does: every scope, unless it is asked for one.
  const answer = await service.query('usage.report', { all_scopes: true, ...query }, user.key);
  expect([answer.status, answer.body.error]).toEqual([200, undefined]);
  return answer.body.result.data;
}

const dayBefore = (days: number) =>
  new Date(Date.parse(today) - days * DAY_MS).toISOString().slice(0, 10);

/** The first day of what a card says that it shows. */
const shownFrom = (note: string | null) =>
  new Date(`${note?.split(' to ')[0]} UTC`).toISOString().slice(0, 10);

const costsBy = (rows: readonly Row[]) => {
  const costs = new Map<string, number>();
  for (const row of rows) costs.set(row.start, (costs.get(row.start) ?? 0) + row.cost_microdollars);
  return [...costs].filter(([, cost]) => cost !== 0);
};

async function shownTotal(page: Page): Promise<string | null> {
  await untilLoaded(page);
  return page.locator('.spend-total data').getAttribute('value');
}

/** Every period of the chart as the arrow keys read it. */
async function readChart(page: Page): Promise<[string, number][]> {
  const chart = page.getByRole('slider');
  await chart.focus();
  const last = Number(await chart.getAttribute('aria-valuemax'));
  const amount = page.locator('.readout-amount');
  const read: [string, number][] = [];
  await page.keyboard.press('Home');
  for (let index = 0; index <= last; index++) {
    read.push(
      await amount.evaluate((data) => [
        data.getAttribute('data-start') ?? '',
        Number(data.getAttribute('value')),
      ]),
    );
    await page.keyboard.press('ArrowRight');
  }
  return read;
}

const open = (path: string, options: { timezone?: string } = {}) =>
  service.open({ key: user.key, path, ...options });

describe('the usage report', () => {
  it('shows chart, lists and CSV equal to the API to the microdollar', async () => {
    const { page, problems, close } = await open('/profile?range=3m');
    await untilLoaded(page);
    const read = await readChart(page);
    const [from = '', until = ''] = [read[0]?.[0], read.at(-1)?.[0]];
    expect(until).toBe(today);
    const report = await reportOf({ from, until, by: ['model'] });
    expect(report.total.requests).toBeGreaterThan(60);
    expect(read.filter(([, cost]) => cost !== 0)).toEqual(costsBy(report.rows));
    expect(await shownTotal(page)).toBe(String(report.total.cost_microdollars));
    await page.getByText('not over yet').first().waitFor();

    const listed = await page
      .locator('section[aria-label="Largest groups"] tbody tr')
      .evaluateAll((rows) =>
        rows.map((row) => [
          row.getAttribute('data-group'),
          Number(row.querySelector('data')?.getAttribute('value')),
        ]),
      );
    for (const [model, cost] of listed) {
      const rows = report.rows.filter((row) => (row.model ?? '') === model);
      expect(cost).toBe(rows.reduce((sum, row) => sum + row.cost_microdollars, 0));
    }
    expect(listed).toHaveLength(MODELS.length);

    const waiting = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Download CSV' }).click();
    const download = await waiting;
    expect(download.suggestedFilename()).toBe(`microdollar-usage_${from}_${until}_day_model.csv`);
    const lines = (await readFile(await download.path(), 'utf8')).trimEnd().split('\r\n');
    const cells = lines.slice(1, -1).map((line) => line.split(','));
    const exported = new Map<string, number>();
    for (const [start = '', , , cost] of cells)
      exported.set(start, (exported.get(start) ?? 0) + Number(cost));
    expect([...exported]).toEqual(read);
    expect(lines.at(-1)?.split(',')[3]).toBe(String(report.total.cost_microdollars));
    expect(problems).toEqual([]);
    await close();
  });

  it('adds every scope together, to the sum of each', async () => {
    const { page, close } = await open('/profile?range=3m');
    await untilLoaded(page);
    const totals: bigint[] = [];
    // Together is what the page opens with.
    const first = await shownTotal(page);
    for (const scope of ['Personal', '\u2068Acme\u2069', 'All scopes']) {
      await page.getByLabel('Scope').selectOption(scope);
      totals.push(BigInt((await shownTotal(page)) ?? ''));
    }
    expect(String(totals[2])).toBe(first);
    const [personal = 0n, shared = 0n, all] = totals;
    expect(shared).toBeGreaterThan(0n);
    expect(all).toBe(personal + shared);
    await close();
  });

  it('follows metric, grouping, grain and range; the URL has it all', async () => {
    const { page, close } = await open('/profile');
    await untilLoaded(page);
    await page.getByRole('radio', { name: '3 months' }).click();
    await page.getByRole('radio', { name: 'Tokens' }).click();
    await page.getByLabel('Per', { exact: true }).selectOption('Week');
    await page.getByLabel('Group by').selectOption('Key');
    await page.getByRole('radio', { name: 'Table' }).click();
    await untilLoaded(page);
    const rows = await page
      .locator('tr[data-start]')
      .evaluateAll((all) => all.map((row) => row.getAttribute('data-start')));
    const report = await reportOf({
      from: rows.at(-1) ?? '',
      until: today,
      grain: 'week',
      by: ['key'],
    });
    expect(rows.every((start) => new Date(`${start}`).getUTCDay() === 1)).toBe(true);
    const shown = await shownTotal(page);
    expect(Number(shown)).toBeLessThanOrEqual(
      report.total.input_tokens + report.total.output_tokens,
    );

    // Reload, and another tab with the same link.
    await page.reload();
    expect(await shownTotal(page)).toBe(shown);
    const link = new URL(page.url());
    const second = await open(link.pathname + link.search);
    expect(await shownTotal(second.page)).toBe(shown);
    await expect.poll(() => second.page.locator('tr[data-start]').count()).toBe(rows.length);
    await second.close();

    // A link that is copied keeps to its days.
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.getByRole('button', { name: 'Copy link' }).click();
    await page.getByRole('button', { name: 'Copied' }).waitFor();
    const copied = new URL(await page.evaluate(() => navigator.clipboard.readText()));
    expect(copied.searchParams.get('until')).toBe(today);
    const third = await open(copied.pathname + copied.search);
    expect(await shownTotal(third.page)).toBe(shown);
    await third.close();

    // Back, step by step.
    await page.goBack();
    await page.getByRole('slider').waitFor();
    await page.goBack();
    expect(await page.getByLabel('Group by').inputValue()).toBe('model');
    await page.goBack();
    expect(await page.getByLabel('Per', { exact: true }).inputValue()).toBe('day');
    await close();
  });

  it('tells pairs of groups apart, in a table and a CSV that are equal to the API', async () => {
    const { page, problems, close } = await open('/profile?range=3m');
    await untilLoaded(page);
    await page.getByLabel('and by').selectOption('Key');
    const pairs = page.locator('section[aria-label="Largest pairs"]');
    await pairs.locator('tfoot').waitFor();
    const read = () =>
      pairs
        .locator('tbody tr')
        .evaluateAll((rows) =>
          rows.map((row) => [
            ...[...row.querySelectorAll('.name')].map((name) => name.textContent ?? ''),
            Number(row.querySelector('data')?.getAttribute('value')),
          ]),
        );
    const shown = await read();
    const days = new URL(page.url()).searchParams;
    expect([days.get('by'), days.get('and')]).toEqual([null, 'key']);
    const range = { from: shownFrom(await page.locator('.card-note').first().textContent()) };
    const report = await reportOf({ ...range, until: today, grain: 'month', by: ['model', 'key'] });
    const costs = new Map<string, number>();
    for (const row of report.rows) {
      const of = `${row.model ?? 'no model named'} ${row.api_key_id === user.keyId}`;
      costs.set(of, (costs.get(of) ?? 0) + row.cost_microdollars);
    }
    const asTold = shown.map(([model, key, cost]): [string, unknown] => [
      `${model} ${key !== 'no key known'}`,
      cost,
    ]);
    expect(new Map(asTold)).toEqual(costs);
    expect(shown.map(([, , cost]) => cost)).toEqual([...costs.values()].sort((a, b) => b - a));
    const total = String(report.total.cost_microdollars);
    expect(await pairs.locator('tfoot data').getAttribute('value')).toBe(total);
    expect(await shownTotal(page)).toBe(total);

    const waiting = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Download these as CSV' }).click();
    const lines = (await readFile(await (await waiting).path(), 'utf8')).trimEnd().split('\r\n');
    expect(lines[0]).toMatch(/^\ufeffmodel,key,cost_microdollars,cost_usd,requests,/);
    const exported = lines.slice(1, -1).map((line) => line.split(','));
    expect(exported.map(([model, key, cost]) => [model, key, Number(cost)])).toEqual(shown);
    expect(lines.at(-1)?.split(',').slice(0, 3)).toEqual(['total', '', total]);

    await page.reload();
    await pairs.locator('tfoot').waitFor();
    expect(await read()).toEqual(shown);
    expect([...(await findFaults(page, pairs)), ...problems]).toEqual([]);
    // Both by the same is by one.
    await page.getByLabel('Group by').selectOption('Key');
    await pairs.waitFor({ state: 'detached' });
    await close();
  });

  it('is stacked by whatever it is grouped by, month by month too, as the API has it', async () => {
    const { page, close } = await open('/profile?range=3m&grain=month&compare=off');
    const rows = page.locator('section[aria-label="Largest groups"] tbody tr');
    for (const [by, text, field] of [
      ['provider', 'Provider', 'provider'],
      ['project', 'Project', 'project_id'],
      ['key', 'Key', 'api_key_id'],
    ] as const) {
      await page.getByLabel('Group by').selectOption(text);
      await page.waitForFunction(
        (heading) =>
          document.querySelector('section[aria-label="Largest groups"] th')?.textContent ===
          heading,
        text,
      );
      const from = shownFrom(await page.locator('.card-note').first().textContent());
      const report = await reportOf({ from, until: today, grain: 'month', by: [by] });
      const groups = new Map<string, number>();
      for (const row of report.rows) {
        const id = row[field] ?? '';
        groups.set(id, (groups.get(id) ?? 0) + row.cost_microdollars);
      }
      const listed = await rows.evaluateAll((all) =>
        all.map((row): [string, number] => [
          row.getAttribute('data-group') ?? '',
          Number(row.querySelector('data')?.getAttribute('value')),
        ]),
      );
      expect([by, new Map(listed)]).toEqual([by, groups]);
      expect(await page.locator('.chart path[class^="layer-"]').count()).toBe(groups.size);
      expect(await readChart(page)).toEqual(costsBy(report.rows));
    }
    // Tiers are shown where they are configured, and here they are not.
    expect(await page.getByRole('heading', { name: 'Average monthly usage' }).count()).toBe(0);
    await close();
  });

  it('takes any two days, and says what is wrong with others', async () => {
    const { page, close } = await open('/profile');
    await page.getByRole('radio', { name: 'Custom' }).click();
    await page.getByLabel('From', { exact: true }).fill(dayBefore(10));
    await page.getByLabel('to', { exact: true }).fill(dayBefore(2));
    await page.getByText('of 9 days with usage').waitFor();
    const { total } = await reportOf({ from: dayBefore(10), until: dayBefore(2) });
    expect(await shownTotal(page)).toBe(String(total.cost_microdollars));
    await page.getByLabel('From', { exact: true }).fill(dayBefore(1));
    await page.getByText('lies after the last').first().waitFor();
    await expect.poll(() => page.locator('.spend-total').count()).toBe(0);
    await close();
  });

  it('compares with as many days before', async () => {
    const { page, close } = await open('/profile?range=7d');
    await untilLoaded(page);
    const { total } = await reportOf({ from: dayBefore(13), until: dayBefore(7) });
    const before = page.getByTestId('previous').locator('data');
    expect(await before.getAttribute('value')).toBe(String(total.cost_microdollars));
    // Drawn over the bars, told by the legend, and read with each of them.
    const outline = page.locator('.chart-before');
    await expect.poll(() => outline.count()).toBe(1);
    await page.getByText(/^before: .* to /).waitFor();
    await page.getByRole('slider').focus();
    await page.keyboard.press('Home');
    const read: number[] = [];
    for (let index = 0; index < 7; index++) {
      const shown = await page.getByTestId('readout-before').getAttribute('value');
      read.push(Number(shown));
      expect(await page.getByRole('slider').getAttribute('aria-valuetext')).toContain(
        '; before: $',
      );
      await page.keyboard.press('ArrowRight');
    }
    const { rows } = await reportOf({ from: dayBefore(13), until: dayBefore(7) });
    const costs = new Map(rows.map((row) => [row.start, row.cost_microdollars]));
    expect(read).toEqual(
      Array.from({ length: 7 }, (_, index) => costs.get(dayBefore(13 - index)) ?? 0),
    );
    await page.getByLabel('Compare with the period before').click();
    await untilLoaded(page);
    await expect.poll(() => page.getByTestId('previous').count()).toBe(0);
    await expect.poll(() => outline.count()).toBe(0);
    await close();
  });

  it('leaves out of a link what its scope has not, and says so', async () => {
    const { page, problems, close } = await open('/profile?by=member&member=somebody&range=7d');
    await untilLoaded(page);
    await page.getByText('Members are those of an organization').waitFor();
    expect(await page.getByLabel('Group by').inputValue()).toBe('model');
    const { total } = await reportOf({ from: dayBefore(6), until: today });
    expect(await shownTotal(page)).toBe(String(total.cost_microdollars));
    await expect.poll(() => page.getByLabel('Filters').count()).toBe(0);
    await page.getByLabel('Group by').selectOption('Key');
    await untilLoaded(page);
    await expect.poll(() => page.getByText('Members are those of an organization').count()).toBe(0);
    expect(problems).toEqual([]);
    await close();
  });

  it('reckons in local time or UTC, and says which, wherever the browser is', async () => {
    for (const timezone of ['Pacific/Kiritimati', 'America/Los_Angeles']) {
      const { page, close } = await open('/profile?range=7d', { timezone });
      await untilLoaded(page);
      await page.locator('.usage .card-note', { hasText: '· UTC ·' }).first().waitFor();
      const read = await readChart(page);
      const days = Array.from({ length: 7 }, (_, index) => dayBefore(6 - index));
      expect(read.map(([start]) => start)).toEqual(days);

      await page.getByLabel('Time').selectOption(`Local: ${timezone}`);
      await page.locator('.usage .card-note', { hasText: timezone }).first().waitFor();
      await untilLoaded(page);
      expect(new URL(page.url()).searchParams.get('zone')).toBe(timezone);
      const local = await readChart(page);
      const { rows, total } = await reportOf({
        from: local[0]?.[0] ?? '',
        until: local.at(-1)?.[0] ?? '',
        zone: timezone,
      });
      expect(local.filter(([, cost]) => cost !== 0)).toEqual(costsBy(rows));
      expect(await shownTotal(page)).toBe(String(total.cost_microdollars));
      await close();
    }
  });

  it('shows hours of a zone with odd quarters, and marks the one that is not over', async () => {
    const { page, close } = await open('/profile?range=day&zone=Asia/Kathmandu');
    await untilLoaded(page);
    const hours = await readChart(page);
    expect(hours).toHaveLength(24);
    expect(hours.every(([start]) => start.endsWith('+05:45'))).toBe(true);
    const day = hours[0]?.[0].slice(0, 10) ?? '';
    const { rows, total } = await reportOf({
      from: day,
      until: day,
      grain: 'hour',
      zone: 'Asia/Kathmandu',
    });
    expect(hours.filter(([, cost]) => cost !== 0)).toEqual(costsBy(rows));
    expect(await shownTotal(page)).toBe(String(total.cost_microdollars));
    // Once more where the hour turned meanwhile.
    const isMarked = async () => {
      const now = hours.findIndex(
        ([start]) => Date.parse(start) <= Date.now() && Date.now() < Date.parse(start) + 3_600_000,
      );
      await page.getByRole('slider').focus();
      await page.keyboard.press('Home');
      for (let step = 0; step < now; step++) await page.keyboard.press('ArrowRight');
      return page.getByTestId('readout').getByText('not over yet').count();
    };
    await expect.poll(isMarked, { timeout: 120_000 }).toBe(1);
    await close();
  });

  it('forecasts the month by the method that it names', async () => {
    for (const path of ['/profile', '/profile?range=7d']) {
      const { page, close } = await open(path);
      await untilLoaded(page);
      await page.getByText('the mean of the last 7 whole days').waitFor();
      const { rows } = await reportOf({ ...forecastRange(today), grain: 'day' });
      const costs = new Map(rows.map((row) => [row.start, BigInt(row.cost_microdollars)]));
      expect(await page.getByTestId('forecast').locator('data').getAttribute('value')).toBe(
        String(forecastMonth(costs, today).expectedMicrodollars),
      );
      await close();
    }
  });

  it('tells a period in detail; Escape and Close go back to where one was', async () => {
    const { page, close } = await open('/profile?range=7d');
    await untilLoaded(page);
    for (const leave of ['Escape', 'Close']) {
      await page.getByRole('slider').focus();
      await page.keyboard.press('End');
      const shown = await page.locator('.readout-amount').getAttribute('value');
      await page.keyboard.press('Enter');
      const total = page.locator('.period-detail tfoot data');
      await total.waitFor();
      expect(await total.getAttribute('value')).toBe(shown);
      await page.reload();
      await total.waitFor();
      await page.getByRole('button', { name: 'Close' }).focus();
      if (leave === 'Escape') await page.keyboard.press('Escape');
      else await page.getByRole('button', { name: 'Close' }).click();
      await page.waitForFunction(() => document.activeElement?.getAttribute('role') === 'slider');
      await expect.poll(() => page.locator('.period-detail').count()).toBe(0);
    }
    await close();
  });

  it('shows one key alone, and the way out of it', async () => {
    const { page, close } = await open('/profile?range=3m&by=key');
    await untilLoaded(page);
    await page.getByRole('button', { name: /^Only key/ }).click();
    await untilLoaded(page);
    const { total } = await reportOf({
      kilo_user_id: user.id,
      from: new URL(page.url()).searchParams.get('from') ?? dayBefore(89),
      until: today,
      api_key_id: user.keyId,
    });
    expect(total.cost_microdollars).toBeGreaterThan(0);
    await page.getByRole('button', { name: 'Show every key' }).click();
    await untilLoaded(page);
    expect(new URL(page.url()).searchParams.get('key')).toBeNull();
    await close();
  });

  it('leaves no old figure under a new heading when the network is gone', async () => {
    const { page, close } = await open('/profile');
    await untilLoaded(page);
    await page.context().setOffline(true);
    await page.getByText('This device is offline').waitFor();
    // What stays says of when it is.
    expect(await page.locator('#balance').textContent()).toMatch(
      /exact at \d+ \w{3} 20\d\d, \d\d:\d\d UTC/i,
    );
    await page.getByRole('radio', { name: '7 days', exact: true }).click();
    await page.getByText('Usage is not available').waitFor();
    await expect.poll(() => page.locator('.spend-total').count()).toBe(0);
    await expect.poll(() => page.getByRole('slider').count()).toBe(0);
    await page.context().setOffline(false);
    await page.getByRole('button', { name: 'Try again' }).first().click();
    await page.getByText('of 7 days with usage').waitFor();
    await expect.poll(() => page.getByText('This device is offline').count()).toBe(0);
    await close();
  });

  it('has no serious barrier as chart, as table, in detail', async () => {
    for (const path of [
      `/profile?range=7d&at=${today}`,
      '/profile?form=table&by=member&zone=Asia/Kathmandu',
    ]) {
      const { page, problems, close } = await open(path);
      await untilLoaded(page);
      // What is around it is examined where every view is: in the profile's tests.
      const faults = await findFaults(page, page.locator('.usage'));
      expect([path, ...faults, ...problems]).toEqual([path]);
      await close();
    }
  });
});
