import { type Browser, chromium, type LaunchOptions } from 'playwright-core';
import { hasPackagedChromium, unpackChromium } from './packagedChromium.js';

const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Tabs of one context share a process, and what it has read and compiled.
  '--renderer-process-limit=1',
  '--process-per-site',
];

/**
 * A real browser: CHROMIUM_PATH, else the one that an npm package brings, else, on platforms for
 * which it brings none, an installed Chrome.
 */
export async function launchChromium(): Promise<Browser> {
  return chromium.launch({ ...(await findBrowser()), args: ARGUMENTS });
}

async function findBrowser(): Promise<LaunchOptions> {
  const executablePath = process.env.CHROMIUM_PATH;
  if (executablePath) return { executablePath };
  if (!hasPackagedChromium()) return { channel: 'chrome' };
  const { env, ...packaged } = await unpackChromium();
  return { ...packaged, env: { ...process.env, ...env } };
}
