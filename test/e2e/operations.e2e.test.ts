import pg from 'pg';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADMIN_KEY } from '../integration/serverHarness.js';
import { findCutLabels, findFaults, type PageService, startPage, untilLoaded } from './harness.js';

const HISTORY_DAYS = 300;

let service: PageService;
let user: { id: string; key: string };

/**
 * An adopted ledger: history that another program wrote, no rollup, reads from raw usage. Two users
 * on each day, one of them with a cost in an organization.
 */
beforeAll(async () => {
  service = await startPage();
  user = await service.newUser();
  const other = await service.newUser();
  const { pool } = service.database;
  await pool.query("update ledger_settings set installed_empty = false, read_mode = 'raw'");
  await pool.query(
    `insert into microdollar_usage (id, kilo_user_id, model, cost, created_at)
     select gen_random_uuid(), u, 'gpt-5', 1000 + d * 7 + length(u),
       now() - d * interval '1 day'
     from generate_series(0, $1::integer - 1) as d, unnest($2::text[]) as u`,
    [HISTORY_DAYS, [user.id, other.id]],
  );
  await pool.query('analyze microdollar_usage');
});
afterAll(() => service?.stop());

/** Somebody waits for a lock: bulk work rests half a second after each chunk. */
async function slowDown(): Promise<() => Promise<void>> {
  const holder = new pg.Client(service.database.url);
  const waiter = new pg.Client(service.database.url);
  await Promise.all([holder.connect(), waiter.connect()]);
  await holder.query('select pg_advisory_lock(42)');
  const waiting = waiter.query('select pg_advisory_lock(42)');
  return async () => {
    await holder.end();
    await waiting;
    await waiter.end();
  };
}

async function builtDays(): Promise<number> {
  const { rows } = await service.database.pool.query<{ built: string }>(
    "select count(*) as built from rollup_coverage where state in ('built', 'verified')",
  );
  return Number(rows[0]?.built);
}

const stateIs = (page: Page, state: string) =>
  page.locator(`[data-testid=backfill-state][data-state=${state}]`).waitFor();

/** Verifies the default range from the page; what the page says of it. */
async function verify(page: Page): Promise<string> {
  const proof = page.getByTestId('proof');
  const before = (await proof.count()) === 0 ? null : await proof.getAttribute('data-run');
  await page.getByRole('button', { name: 'Verify', exact: true }).click();
  await page.waitForFunction((run) => {
    const shown = document.querySelector('[data-testid=proof]');
    return shown !== null && shown.getAttribute('data-run') !== run;
  }, before);
  return (await proof.textContent()) ?? '';
}

async function switchTo(page: Page, mode: string): Promise<void> {
  await page.getByRole('button', { name: `Switch to ${mode}` }).click();
  await page
    .getByRole('alertdialog')
    .getByRole('button', { name: `Switch to ${mode}` })
    .click();
}

describe('the operations console', () => {
  it('takes an adopted ledger from raw reads to proven rollup reads', async () => {
    const { page, problems, close } = await service.open({ key: ADMIN_KEY });
    await untilLoaded(page);

    // Refused, with the reasons.
    await switchTo(page, 'rollup');
    const refusal = page.getByTestId('refusal');
    await refusal.waitFor();
    expect(await refusal.textContent()).toMatch(/not built and verified/);
    expect(await page.getByTestId('obstacles').textContent()).toContain('0 of 100 comparisons');

    // Backfill: started, paused while it runs, resumed.
    const release = await slowDown();
    await page.getByRole('button', { name: 'Start a backfill' }).click();
    await page.getByText(`${HISTORY_DAYS} days to build`).waitFor();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Start' }).click();
    await stateIs(page, 'running');
    await page.getByRole('button', { name: 'Pause' }).click();
    await stateIs(page, 'paused');
    // A chunk that was under way when it was paused still ends; one that goes on builds them all.
    let built = -1;
    for (let now = await builtDays(); now !== built; now = await builtDays()) {
      built = now;
      await page.waitForTimeout(1_500);
    }
    expect(built).toBeLessThan(HISTORY_DAYS);
    await release();
    await page.getByRole('button', { name: 'Resume' }).click();
    await stateIs(page, 'finished');
    expect(await builtDays()).toBe(HISTORY_DAYS);

    // Proven by verification, and by comparisons in shadow.
    expect(await verify(page)).toMatch(/no drift/);
    await switchTo(page, 'shadow');
    await page.getByRole('button', { name: 'Compare 100 users now' }).click();
    await page.getByText('100 of 100 shadow comparisons, 0 mismatches').waitFor();
    await page.getByText('Every day of the three-month window is proven').waitFor();
    await switchTo(page, 'rollup');
    await page.locator('.mode.current', { hasText: 'rollup' }).waitFor();
    expect(problems).toEqual([]);
    await close();
  });

  it('finds planted drift with its exact amount, falls back, and repairs it from the page', async () => {
    const { rows } = await service.database.pool.query<{ day: string }>(
      `update microdollar_usage_daily
       set total_cost_microdollars = total_cost_microdollars + 5
       where kilo_user_id = $1
         and usage_date = (now() at time zone 'UTC')::date - 3
       returning usage_date::text as day`,
      [user.id],
    );
    const day = rows[0]?.day ?? '';
    const { page, close } = await service.open({ key: ADMIN_KEY });
    await untilLoaded(page);
    expect(await verify(page)).toMatch(/1 total wrong by \$0\.000005/);
    const finding = page.locator('section[aria-label="Drift findings"] tbody tr');
    await expect.poll(() => finding.count()).toBe(1);
    expect(await finding.textContent()).toContain(user.id);
    expect(await finding.locator('data').getAttribute('value')).toBe('5');
    await page.locator(`[data-day="${day}"][data-state=drift]`).waitFor();
    await page.locator('.mode.current', { hasText: 'raw' }).waitFor();

    await page.getByRole('button', { name: 'Repair' }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Repair' }).click();
    await page.getByText('1 total corrected by $0.000005').waitFor();
    await page.locator(`[data-day="${day}"][data-state=verified]`).waitFor();
    expect(await verify(page)).toMatch(/no drift/);
    const audit = await service.database.pool.query('select cause from rollup_repairs');
    expect(audit.rows).toHaveLength(1);
    await close();
  });

  it('leads from a day of the calendar to its verification, by pointer and by keyboard', async () => {
    const { page, close } = await service.open({ key: ADMIN_KEY, path: '/operations' });
    await untilLoaded(page);
    const cells = page.locator('button[data-day]');
    const days = await cells.evaluateAll((all) => all.map((cell) => cell.getAttribute('data-day')));
    const last = days.toSorted().at(-1) ?? '';
    await page.locator(`button[data-day="${last}"]`).focus();
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('Enter');
    const day = new Date(Date.parse(last) - 86_400_000).toISOString().slice(0, 10);
    await page.waitForFunction(
      (chosen) => document.querySelector<HTMLInputElement>('.actions input')?.value === chosen,
      day,
    );
    expect(new URL(page.url()).searchParams.get('day')).toBe(day);
    expect(await verify(page)).toMatch(/no drift/);
    await cells.first().click();
    await page.waitForFunction(() => document.activeElement?.textContent === 'Verify');
    await close();
  });

  it('counts the days of the calendar as the backfill does', async () => {
    const { page, close } = await service.open({ key: ADMIN_KEY, path: '/operations' });
    await untilLoaded(page);
    const legend = await page.locator('.legend li').allTextContents();
    const count = (state: string) =>
      Number(/[\d,]+/.exec(legend.find((text) => text.startsWith(state)) ?? '')?.[0] ?? 0);
    const built = count('built') + count('verified') + count('archived');
    const all = built + count('unbuilt') + count('building') + count('drift');
    await page.getByText(`${built + count('drift')} of ${all} days built`).waitFor();
    await close();
  });

  it('is live, and says so when it is not', async () => {
    const { page, close } = await service.open({ key: ADMIN_KEY, path: '/operations' });
    await untilLoaded(page);
    await page.locator('.as-of.live').first().waitFor();
    const cost = 4_200;
    await service.ledger.recordUsageBatch(
      Array.from({ length: 20 }, () => ({ kilo_user_id: user.id, cost })),
    );
    await page.getByText('20 recorded, 0 rejected since start').waitFor();
    for (const width of [1280, 375]) {
      await page.setViewportSize({ width, height: 860 });
      await page.locator('.chart-line').first().waitFor({ state: 'attached' });
      expect([width, await findCutLabels(page)]).toEqual([width, []]);
    }
    await page.route('**/api/trpc/**', (route) => route.abort());
    await page
      .getByText(/Stale: as of .*the server does not answer; is it running\?\); trying/)
      .first()
      .waitFor();
    await page.unroute('**/api/trpc/**');
    await page.locator('.as-of.live').first().waitFor();
    await close();
  });

  it('lists usage without a price', async () => {
    const { page, close } = await service.open({ key: ADMIN_KEY, path: '/operations' });
    await page.getByText('Everything has a price').waitFor();
    const { id } = await service.ledger.recordUsage({
      kilo_user_id: user.id,
      model: 'unheard-of',
      cost: 0,
      metadata: { unpriced: true },
    });
    await page.reload();
    await page.locator('tr', { hasText: id }).getByText('unheard-of').waitFor();
    await page.getByText('microdollar price-unpriced').waitFor();
    await close();
  });

  it('lists the budgets of every payer, sets, raises and removes them', async () => {
    const { page, problems, close } = await service.open({ key: ADMIN_KEY });
    await untilLoaded(page);
    await page.getByRole('heading', { name: 'Budgets', exact: true }).scrollIntoViewIfNeeded();
    await page.getByText('No budgets').waitFor();
    const form = page.getByRole('form', { name: 'New budget' });
    const organization = await service.newOrganization(user.id);
    for (const [limits, id, payer] of [
      ['user', 'nobody', null],
      ['user', user.id, null],
      ['project', 'project-x', null],
      ['project', 'project-x', organization],
    ] as const) {
      if (!(await form.isVisible())) await page.getByRole('button', { name: 'New budget' }).click();
      await form.getByLabel('Limits').selectOption(limits);
      await form.getByLabel(limits === 'user' ? 'User id' : 'Project').fill(id);
      if (payer !== null) await form.getByLabel('or organization id').fill(payer);
      await form.getByLabel('Limit, $').fill('12.5');
      await form.getByRole('button', { name: 'Set the budget' }).click();
      if (id === 'nobody') await form.getByText('Names no user').waitFor();
      else if (limits === 'project' && payer === null) {
        await form.getByText('name who pays for the project').waitFor();
      } else await form.waitFor({ state: 'detached' });
    }
    const row = page.locator('[data-budget]', { hasText: user.id });
    await row.getByRole('button', { name: /^Raise/ }).click();
    await row.getByLabel('Add, $').fill('5');
    await page.keyboard.press('Enter');
    await row.getByText('Raised by $5.00').waitFor();
    await page.getByRole('region', { name: 'Budgets of Acme' }).getByText('project-x').waitFor();
    const budgets = page.getByRole('region', { name: 'Budgets', exact: true });
    expect(await findFaults(page, budgets)).toEqual([]);
    await row.getByRole('button', { name: /^Remove/ }).click();
    await page.getByRole('alertdialog').getByRole('button', { name: 'Remove' }).click();
    await row.waitFor({ state: 'detached' });
    const left = await service.query('budgets.payers');
    expect(left.body.result.data.payers.map(({ id }: { id: string }) => id)).toEqual([
      organization,
    ]);
    expect(problems).toEqual([]);
    await close();
  });

  it('has no serious barrier in light and dark, and fits a narrow screen', async () => {
    const { page, problems, close } = await service.open({ key: ADMIN_KEY, path: '/operations' });
    await untilLoaded(page);
    expect(await findFaults(page)).toEqual([]);
    await page.getByRole('button', { name: 'Switch to shadow' }).click();
    const dialog = page.getByRole('alertdialog');
    await dialog.waitFor();
    expect(await findFaults(page, dialog)).toEqual([]);
    expect(problems).toEqual([]);
    await close();
  });
});
