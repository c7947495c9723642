/**
 * Screenshots for the README, of the demo's data: `npm run screenshots`. Writes
 * `docs/images/<view>-<width>-<light|dark>.png`.
 */
import { mkdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Browser, Locator, Page } from 'playwright-core';
import { createApiKey } from '../src/accounts/apiKeys.js';
import { setAlert } from '../src/alerts/alerts.js';
import { addWebhook } from '../src/alerts/webhooks.js';
import { changeBudget, listBudgets } from '../src/budgets/budgets.js';
import { fillDemo } from '../src/demo/fill.js';
import { DEMO_ORGANIZATIONS } from '../src/demo/people.js';
import { createLedger } from '../src/ledger.js';
import type { Ledger } from '../src/ledgerTypes.js';
import { verifyRollup } from '../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../src/schema/rollups.js';
import { createServer } from '../src/server/index.js';
import { pagePlugin } from '../src/server/page.js';
import { startEmbeddedPostgres } from '../src/testing.js';
import { launchChromium } from '../test/e2e/chromium.js';
import { startWebhookReceiver, type WebhookReceiver } from '../test/support/webhookReceiver.js';

const ADMIN_KEY = 'admin-key-of-the-screenshots';
const WIDTHS = [1280, 375] as const;
const SCHEMES = ['light', 'dark'] as const;
const MAX_HEIGHT = 1_420;
/** Real writes for the live charts before the first picture. */
const TRAFFIC_MS = 45_000;

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: 'docs/images' },
    'traffic-ms': { type: 'string', default: String(TRAFFIC_MS) },
  },
});

const database = await startEmbeddedPostgres();
const ledger = await createLedger({
  databaseUrl: database.url,
  deliverAlerts: true,
  allowPrivateWebhooks: true,
});
const { from, until } = await fillDemo(ledger, { days: 92, users: 24 });
await verifyRollup({ url: database.url, rollup: DAILY_ROLLUP, from, until });
const { key } = await createApiKey(ledger.pool, {
  kilo_user_id: 'demo-ada',
  scopes: ['usage:read', 'gateway'],
});
const organization = DEMO_ORGANIZATIONS[0]?.id;
const server = createServer({
  ledger,
  adminKey: ADMIN_KEY,
  port: 0,
  logLevel: 'warn',
  plugins: [pagePlugin()],
});
const url = await server.listen();
await useBudgets(ledger);
const receivers = await useAlerts(ledger);
const traffic = sendTraffic(ledger);
const browser = await launchChromium();
try {
  mkdirSync(values.out, { recursive: true });
  await new Promise((resolve) => setTimeout(resolve, Number(values['traffic-ms'])));
  for (const width of WIDTHS) {
    for (const scheme of SCHEMES) {
      const name = (view: string) => `${values.out}/${view}-${width}-${scheme}.png`;
      await takeView(browser, { width, scheme, key: null, path: '/' }, name('sign-in'));
      await takeView(browser, { width, scheme, key, path: '/profile' }, name('profile'), openDay);
      await takeView(
        browser,
        { width, scheme, key, path: `/profile?scope=${organization}&by=member&range=3m` },
        name('organization'),
      );
      const budgets = { width, scheme, key, path: `/profile?scope=${organization}` };
      await takeView(browser, budgets, name('budgets'), openCard('Budgets'));
      await takeView(browser, budgets, name('alerts'), openCard('Alerts'));
      await takeView(
        browser,
        { width, scheme, key: ADMIN_KEY, path: '/operations' },
        name('operations'),
      );
    }
  }
} finally {
  traffic.stop();
  for (const receiver of receivers) await receiver.close();
  await browser.close();
  await server.close();
  await ledger.close();
  await database.stop();
}

async function takeView(
  on: Browser,
  view: { width: number; scheme: 'light' | 'dark'; key: string | null; path: string },
  file: string,
  /** May name a part of the view that is shown instead of all. */
  prepare?: (page: Page) => Promise<Locator | null>,
): Promise<void> {
  const context = await on.newContext({
    viewport: { width: view.width, height: view.width < 600 ? 812 : 860 },
    colorScheme: view.scheme,
    reducedMotion: 'reduce',
    locale: 'en-US',
  });
  const page = await context.newPage();
  if (view.key !== null) {
    const key = JSON.stringify(view.key);
    await page.addInitScript(`sessionStorage.setItem('microdollar.key', ${key})`);
  }
  await renameWebhooks(page);
  await page.goto(`${url}${view.path}`);
  await page.locator('h1').waitFor();
  await untilLoaded(page);
  const part = (await prepare?.(page)) ?? null;
  const box = await (part ?? page.locator('body')).boundingBox();
  // The top of it: what follows are rows of tables.
  const height = Math.min(Math.ceil(box?.height ?? MAX_HEIGHT), MAX_HEIGHT);
  const y = part === null ? 0 : (box?.y ?? 0) + (await page.evaluate<number>('scrollY'));
  await page.screenshot({
    path: file,
    fullPage: true,
    clip: { x: 0, y, width: view.width, height },
  });
  console.log(file);
  await context.close();
}

async function untilLoaded(page: Page): Promise<void> {
  while ((await page.locator('.loading').count()) > 0) await page.waitForTimeout(50);
}

/** A bar from three quarters on, read and told in detail. */
async function openDay(page: Page): Promise<null> {
  const chart = page.getByRole('slider');
  const box = await chart.boundingBox();
  if (box === null) throw new Error('no chart');
  const y = box.height * 0.6;
  for (let x = box.width * 0.75; x < box.width; x += 4) {
    await chart.hover({ position: { x, y } });
    const amount = page.locator('.readout-amount');
    if (Number((await amount.getAttribute('value')) ?? 0) === 0) continue;
    await chart.click({ position: { x, y } });
    break;
  }
  await page.locator('.period-detail table').waitFor();
  await page.evaluate('scrollTo({ top: 0 })');
  return null;
}

/** A card further down, which is asked for when it is seen. */
function openCard(title: string): (page: Page) => Promise<Locator> {
  return async (page) => {
    const heading = page.getByRole('heading', { name: title, exact: true });
    await heading.scrollIntoViewIfNeeded();
    await page.waitForTimeout(200);
    await untilLoaded(page);
    return page.locator('section.card').filter({ has: heading });
  };
}

/** A request in flight, and a budget that is raised. */
async function useBudgets(to: Ledger): Promise<void> {
  const store = { pool: to.pool, folder: to.budgetFolder };
  const payer = { scope: 'organization' as const, id: organization ?? '' };
  const budgets = await listBudgets(store, payer);
  const billing = budgets.find(({ project_id }) => project_id === 'billing');
  const raise = { raise_usd: 5, raise_until: '2999-01-01T00:00:00Z' };
  await changeBudget(store, billing?.id ?? '', raise);
  await to.hold({ kilo_user_id: 'demo-barbara', organization_id: payer.id, amount: 1_250_000 });
}

/** What was told to somebody who hears it, and to somebody who is away. */
async function useAlerts(to: Ledger): Promise<WebhookReceiver[]> {
  const payer = { organization_id: organization ?? '' };
  const receivers = await Promise.all([startWebhookReceiver(), startWebhookReceiver()]);
  receivers[1]?.answerWith(503);
  for (const { url } of receivers) await addWebhook(to.alertStore, { ...payer, url });
  const budgetPayer = { scope: 'organization' as const, id: payer.organization_id };
  const budgets = await listBudgets({ pool: to.pool, folder: to.budgetFolder }, budgetPayer);
  for (const { id, is_balance } of budgets) {
    if (!is_balance) await setAlert(to.alertStore, { kind: 'budget', budget_id: id });
  }
  await setAlert(to.alertStore, { kind: 'balance', ...payer, below_usd: 100_000 });
  await setAlert(to.alertStore, { kind: 'spend', ...payer });
  while (receivers.some(({ received }) => received.length === 0)) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return receivers;
}

/** Addresses as somebody has them: the ports are those of this run. */
async function renameWebhooks(page: Page): Promise<void> {
  await page.route('**/api/trpc/alerts.*', async (route) => {
    const response = await route.fetch();
    let body = await response.text();
    for (const [index, { url }] of receivers.entries()) {
      const name = ['spend', 'on-call'][index];
      body = body.replaceAll(url, `https://hooks.acme.example/${name}`);
    }
    await route.fulfill({ response, body });
  });
}

/** Bursts that contend for one user's rows now and then. */
function sendTraffic(to: Ledger): { stop(): void } {
  let beat = 0;
  const timer = setInterval(() => {
    beat++;
    const count = 8 + Math.round(7 * Math.sin(beat / 6)) + (beat % 9);
    const events = Array.from({ length: count }, (_, index) => ({
      kilo_user_id: index % 3 === 0 ? 'demo-grace' : 'demo-alan',
      provider: 'openai',
      model: 'gpt-5',
      cost: 900 + ((beat * 7919 + index * 104_729) % 60_000),
      input_tokens: 800,
      output_tokens: 60,
    }));
    void to.recordUsageBatch(events);
  }, 200);
  return { stop: () => clearInterval(timer) };
}
