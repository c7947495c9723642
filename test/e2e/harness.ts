import { AxeBuilder } from '@axe-core/playwright';
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core';
import type { LedgerOptions } from '../../src/ledgerTypes.js';
import type { ServerOptions } from '../../src/server/index.js';
import { pagePlugin } from '../../src/server/page.js';
import { startTestServer, type TestServer } from '../integration/serverHarness.js';
import { builtPage } from './builtPage.js';
import { launchChromium } from './chromium.js';

const WIDE = 1280;
const NARROW = 375;

export interface View {
  page: Page;
  /** Errors of the console, uncaught exceptions, refused styles and scripts, foreign requests. */
  problems: string[];
  close(): Promise<void>;
}

export interface PageService extends TestServer {
  browser: Browser;
  /** What was built. */
  directory: string;
  open(options?: {
    /** Signed in with it already; absent: at the sign-in form. */
    key?: string;
    path?: string;
    timezone?: string;
    /** What the browser says that its language is. */
    language?: string;
  }): Promise<View>;
}

/** The built page on a server over a database of its own, and a real browser. */
export async function startPage(
  options: Pick<ServerOptions, 'tiersUsd'> = {},
  ledgerOptions: Partial<LedgerOptions> = {},
): Promise<PageService> {
  const directory = await builtPage();
  const browser = await launchChromium();
  const service = await startTestServer(
    { ...options, plugins: [pagePlugin({ directory })], logLevel: 'warn' },
    undefined,
    ledgerOptions,
  );
  return {
    ...service,
    browser,
    directory,
    open: (options = {}) => open(browser, service.url, options),
    async stop() {
      await browser.close();
      await service.stop();
    },
  };
}

async function open(
  browser: Browser,
  url: string,
  options: NonNullable<Parameters<PageService['open']>[0]>,
): Promise<View> {
  const context = await browser.newContext({
    viewport: { width: WIDE, height: 860 },
    reducedMotion: 'reduce',
    // Else that of the machine, which may be none: LANG=C.
    locale: 'en-US',
    ...(options.timezone === undefined ? {} : { timezoneId: options.timezone }),
  });
  context.setDefaultTimeout(120_000);
  const page = await context.newPage();
  const problems = watch(context, page, url);
  if (options.language !== undefined) {
    await page.addInitScript((language) => {
      Object.defineProperty(Navigator.prototype, 'language', { get: () => language });
    }, options.language);
  }
  if (options.key !== undefined) {
    // Once: a sign-out must last over a reload.
    await page.addInitScript((key) => {
      if (sessionStorage.getItem('test.started') !== null) return;
      sessionStorage.setItem('test.started', 'yes');
      sessionStorage.setItem('microdollar.key', key);
    }, options.key);
  }
  await page.goto(`${url}${options.path ?? '/'}`);
  return { page, problems, close: () => context.close() };
}

function watch(context: BrowserContext, page: Page, url: string): string[] {
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`));
  page.on('console', (message) => {
    // The browser's own line about an answer such as 401 is no fault of the page.
    const isAnswer = message.text().startsWith('Failed to load resource');
    if (message.type() === 'error' && !isAnswer) problems.push(`console: ${message.text()}`);
  });
  context.on('request', (request) => {
    if (request.url().startsWith('blob:')) return;
    if (!request.url().startsWith(`${url}/`)) problems.push(`foreign request: ${request.url()}`);
  });
  return problems;
}

/** Waits until no part of the view says that it is loading. */
export async function untilLoaded(page: Page): Promise<void> {
  await page.locator('h1').waitFor();
  // What was just asked for has been drawn as asked for.
  await page.evaluate(
    () => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))),
  );
  await page.waitForFunction(() => document.querySelector('.loading') === null);
}

const EXAMINED = 'data-examined';
/** Of what is right nothing is told, nor by which selectors elements are found. */
const VIOLATIONS_ALONE: Parameters<AxeBuilder['options']>[0] = {
  resultTypes: ['violations'],
  selectors: false,
};

/**
 * What keeps people out of the view as it stands, in words: serious and critical violations in light
 * and dark, and what makes a narrow screen scroll sideways. With `part`, violations in that alone: a
 * whole profile is two seconds of contrasts, and most of it is as every test has it.
 */
export async function findFaults(page: Page, part?: Locator): Promise<string[]> {
  const faults: string[] = [];
  await part?.evaluate((element, name) => element.setAttribute(name, ''), EXAMINED);
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    // Between the two only colours differ. Legacy mode: no frames here, so no page per run.
    const axe = new AxeBuilder({ page }).setLegacyMode(true).options({ ...VIOLATIONS_ALONE });
    if (part !== undefined) axe.include(`[${EXAMINED}]`);
    if (colorScheme === 'dark') axe.withRules(['color-contrast']);
    const { violations } = await axe.analyze();
    for (const { id, impact, nodes } of violations) {
      if (impact !== 'serious' && impact !== 'critical') continue;
      faults.push(
        `${colorScheme} ${id}: ${nodes.map(({ html }) => html.slice(0, 150)).join(' | ')}`,
      );
    }
  }
  await part?.evaluate((element, name) => element.removeAttribute(name), EXAMINED);
  await page.setViewportSize({ width: NARROW, height: 812 });
  const excess = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  if (excess > 0) faults.push(`${excess} px too wide for ${NARROW} px`);
  return faults;
}

/** Labels of charts that reach beyond their picture. */
export function findCutLabels(page: Page): Promise<(string | null)[]> {
  return page.evaluate(() =>
    [...document.querySelectorAll('.chart svg')].flatMap((svg) => {
      const frame = svg.getBoundingClientRect();
      return [...svg.querySelectorAll('text')]
        .filter((label) => {
          const box = label.getBoundingClientRect();
          return box.left < frame.left - 0.5 || box.right > frame.right + 0.5;
        })
        .map((label) => label.textContent);
    }),
  );
}
