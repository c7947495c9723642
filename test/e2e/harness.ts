import axe, { type RunOptions } from 'axe-core';
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core';
import type { LedgerOptions } from '../../src/ledgerTypes.js';
import type { ServerOptions } from '../../src/server/index.js';
import { pagePlugin } from '../../src/server/page.js';
import { startTestServer, type TestServer } from '../integration/serverHarness.js';
import { aloneInRun } from '../support/aloneInRun.js';
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
  /** In a tab of its own: nothing that the page keeps is of another one. */
  open(options?: OpenOptions): Promise<View>;
}

interface OpenOptions {
  /** Signed in with it already; absent: at the sign-in form. */
  key?: string;
  path?: string;
  timezone?: string;
  /** What the browser says that its language is. */
  language?: string;
}

/** The built page on a server over a database of its own, and a real browser. */
export async function startPage(
  options: Pick<ServerOptions, 'tiersUsd'> = {},
  ledgerOptions: Partial<LedgerOptions> = {},
): Promise<PageService> {
  const directory = await builtPage();
  // In a new clone the first one unpacks it, which is seconds of work.
  const browser = await aloneInRun('chromium', launchChromium);
  const service = await startTestServer(
    { ...options, plugins: [pagePlugin({ directory })], logLevel: 'warn' },
    undefined,
    ledgerOptions,
  );
  const contexts = new Map<string, Promise<BrowserContext>>();
  const contextIn = (timezone = '') => {
    const context = contexts.get(timezone) ?? newContext(browser, service.url, timezone);
    contexts.set(timezone, context);
    return context;
  };
  return {
    ...service,
    browser,
    directory,
    open: async (options = {}) => open(await contextIn(options.timezone), service.url, options),
    async stop() {
      await browser.close();
      await service.stop();
    },
  };
}

/** One for all tabs of a file: each would start a process of its own, and read the program anew. */
async function newContext(
  browser: Browser,
  url: string,
  timezone: string,
): Promise<BrowserContext> {
  const context = await browser.newContext({
    viewport: { width: WIDE, height: 860 },
    reducedMotion: 'reduce',
    // Else that of the machine, which may be none: LANG=C.
    locale: 'en-US',
    ...(timezone === '' ? {} : { timezoneId: timezone }),
  });
  context.setDefaultTimeout(120_000);
  // Stays open: with the last tab of a site its process ends, and the next one begins a new one.
  const kept = await context.newPage();
  await kept.goto(`${url}/favicon.svg`);
  return context;
}

async function open(context: BrowserContext, url: string, options: OpenOptions): Promise<View> {
  const page = await context.newPage();
  const problems = watch(page, url);
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
  return { page, problems, close: () => page.close() };
}

function watch(page: Page, url: string): string[] {
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`));
  page.on('console', (message) => {
    // The browser's own line about an answer such as 401 is no fault of the page.
    const isAnswer = message.text().startsWith('Failed to load resource');
    if (message.type() === 'error' && !isAnswer) problems.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    if (request.url().startsWith('blob:')) return;
    if (!request.url().startsWith(`${url}/`)) problems.push(`foreign request: ${request.url()}`);
  });
  return problems;
}

/** Waits until no part of the view says that it is loading. */
export async function untilLoaded(page: Page): Promise<void> {
  await page.locator('h1').waitFor();
  // What was just asked for has been drawn as asked for: a transition of React may take several frames, and
  // the browser is idle after it alone.
  await page.evaluate(
    () => new Promise((drawn) => requestAnimationFrame(() => requestIdleCallback(drawn))),
  );
  await page.waitForFunction(() => document.querySelector('.loading') === null);
}

/** Of what is right nothing is told, nor by which selectors elements are found. */
const VIOLATIONS_ALONE: RunOptions = { resultTypes: ['violations'], selectors: false };

/**
 * What keeps people out of the view as it stands, in words: serious and critical violations in light
 * and dark, and what makes a narrow screen scroll sideways. With `part`, violations in that alone: a
 * whole profile is two seconds of contrasts, and most of it is as every test has it.
 */
export async function findFaults(page: Page, part?: Locator): Promise<string[]> {
  const faults: string[] = [];
  const examined = part ?? page.locator('html');
  // Half a megabyte of program: once for each document.
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe.source);
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme });
    // Between the two only colours differ.
    const runOnly = colorScheme === 'dark' ? { runOnly: ['color-contrast'] } : {};
    const found = await examined.evaluate(findViolations, { ...VIOLATIONS_ALONE, ...runOnly });
    faults.push(...found.map((violation) => `${colorScheme} ${violation}`));
  }
  await page.setViewportSize({ width: NARROW, height: 812 });
  const excess = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  if (excess > 0) faults.push(`${excess} px too wide for ${NARROW} px`);
  return faults;
}

/** In the page. */
async function findViolations(element: Element, options: RunOptions): Promise<string[]> {
  const { run } = (window as unknown as { axe: typeof axe }).axe;
  const { violations } = await run(element, options);
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 150)).join(' | ')}`);
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
