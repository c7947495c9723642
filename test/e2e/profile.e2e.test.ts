import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { revokeApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { ADMIN_KEY } from '../integration/serverHarness.js';
import { findFaults, type PageService, startPage, untilLoaded } from './harness.js';

const DAY_MS = 86_400_000;

let service: PageService;
let user: { id: string; key: string; keyId: string };
let other: { id: string; key: string };
let organization: string;

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

describe('signing in', () => {
  it('refuses a wrong key and keeps nothing of it, then takes the right one', async () => {
    const { page, problems, close } = await service.open();
    // One types at once: nothing has to be pressed before.
    await page.waitForFunction(() => document.activeElement?.getAttribute('name') === 'key');
    await page.keyboard.type(`md_${'x'.repeat(43)}`);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('This key is wrong or was revoked').waitFor();
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);

    // As a paste from a document may be.
    await page.reload();
    await page.getByLabel('Key').fill(`\u201c${user.key}\u201d`);
    await page.keyboard.press('Enter');
    await page.getByText('This key is wrong or was revoked').waitFor();

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
    // Who is signed in needs no admin key to go on.
    const card = page.getByRole('region', { name: 'No usage yet' });
    await card.getByText('api/usage').waitFor();
    expect(await card.textContent()).toContain(`"kilo_user_id":"${leaver.id}"`);
    expect(await card.textContent()).not.toMatch(/admin|api\/keys/i);
    await revokeApiKey(service.ledger.pool, leaver.keyId);
    await page.getByRole('radio', { name: '7 days', exact: true }).click();
    await page.getByText('the key is no longer accepted').waitFor();
    await close();
  });
});

describe('the profile', () => {
  it("does not reach another user's data", async () => {
    const { page, close } = await service.open({
      key: user.key,
      path: `/profile?user=${other.id}`,
    });
    await page.getByText("another user's data is out of reach", { exact: false }).waitFor();
    const text = await page.locator('main').textContent();
    expect(text).not.toContain('$');
    await expect.poll(() => page.getByRole('link', { name: 'Operations' }).count()).toBe(0);
    await page.goto(`${service.url}/operations`);
    await page.getByText('This key may not see operations').waitFor();
    await close();
  });

  it('opens on a machine without a language, where the browser names one that is none', async () => {
    for (const path of ['/profile', '/operations']) {
      const key = path === '/profile' ? user.key : ADMIN_KEY;
      const { page, problems, close } = await service.open({ key, path, language: 'en-US@posix' });
      await untilLoaded(page);
      await page.locator('.chart svg').first().waitFor();
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
    await page.locator('.chart svg').first().waitFor();
    await close();
  });

  it('tells an operator without a user whose profile to name, and lets them name another', async () => {
    const { page, close } = await service.open({ key: ADMIN_KEY, path: '/profile' });
    await page.getByLabel('User id').fill('nobody');
    await page.getByRole('button', { name: 'Show' }).click();
    await page.getByText('There is no user nobody in this ledger').waitFor();
    await page.getByRole('link', { name: 'Another user' }).click();
    await page.getByLabel('User id').fill(other.id);
    await page.getByRole('button', { name: 'Show' }).click();
    await page.locator('.view-note', { hasText: other.id }).waitFor();
    expect(await page.title()).toBe(`Usage of ${other.id} · microdollar`);
    await page.getByRole('link', { name: 'Another user' }).click();
    await page.getByRole('heading', { name: 'Whose profile?' }).waitFor();
    await close();
  });
});

describe('first steps', () => {
  it('say what works: each command is taken, and the last shows on the profile', async () => {
    const { page, close } = await service.open({ path: '/start' });
    const commands = await page.locator('.steps .command code').allTextContents();
    expect(commands[0]).toContain('admin-key');
    let made = '';
    for (const command of commands.slice(1)) {
      const [, url = ''] = /curl -s (\S+)/.exec(command) ?? [];
      const [, body = ''] = /-d '(.*)'/.exec(command) ?? [];
      const key = command.includes('$ADMIN_KEY') ? ADMIN_KEY : made;
      const response = await fetch(url, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body,
      });
      expect([command, response.status]).toEqual([command, expect.toBeOneOf([200, 201])]);
      const answer = (await response.json()) as { key?: string };
      made = answer.key ?? made;
    }
    await close();
    const profile = await service.open({ key: made, path: '/profile' });
    await untilLoaded(profile.page);
    const total = profile.page.locator('.spend-total data');
    expect(await total.getAttribute('value')).toBe('1250');
    await profile.close();
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
      [undefined, '/nonsense'],
      [user.key, '/profile'],
      [newcomer.key, '/profile'],
    ] as const) {
      const options = key === undefined ? { path } : { path, key };
      const { page, problems, close } = await service.open(options);
      await untilLoaded(page);
      if (key === user.key) {
        await page.getByRole('slider').press('End');
        await page.keyboard.press('Enter');
        await page.locator('.period-detail table').waitFor();
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
    const of = async (part: string) => (await findFaults(page, page.locator(part))).join();
    expect(await of('main')).toMatch(/light button-name.*px too wide/s);
    expect(await of('form')).not.toContain('button-name');
    expect(problems.join()).toMatch(/Content Security Policy/);
    expect(problems.join()).toMatch(/foreign request|connect-src/);
    await close();
  });
});
