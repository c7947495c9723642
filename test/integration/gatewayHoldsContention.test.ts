import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { BudgetKeeper } from '../../src/budgets/keeper.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { checkInvariants, checkNeverExceeds } from '../support/checkInvariants.js';
import { inForm } from '../support/form.js';
import { sampleWriteWaits } from '../support/lockSampler.js';
import { programPath } from '../support/programs.js';
import { createRandom, type Random } from '../support/random.js';
import { type ReplayUpstream, startReplayUpstream } from '../support/replayUpstream.js';
import { scriptProvider } from '../support/scriptedProvider.js';
import { acquire, addBudget, expectWhole, foldBudgets, windowsOf } from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** `CONTENTION_SCALE=20` sends twenty times the requests of the full form. */
const SCALE = Number(process.env.CONTENTION_SCALE ?? inForm(0.3, 1));
const CALLERS = 20;
const REQUESTS = 10 * SCALE;
/** Without those of the log, which may meet the same id. */
const HOLDING = '^/\\* microdollar\\.(reserve|extendHold|releaseHold|findHold|readBudgets)';

let fixture: LedgerFixture;
let ledger: Ledger;
let upstream: ReplayUpstream;
const gateways: GatewayProcess[] = [];

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
  upstream = await startReplayUpstream();
  scriptProvider(upstream);
  for (let n = 0; n < 2; n++) gateways.push(await GatewayProcess.open());
});
afterAll(async () => {
  await Promise.all(gateways.map((each) => each.close()));
  await upstream?.close();
  await fixture?.close();
});

/** One that comes back on its port, and in its directory. */
class GatewayProcess {
  readonly #dataDir: string;
  #child: ChildProcess | null = null;
  url = '';

  private constructor(dataDir: string) {
    this.#dataDir = dataDir;
  }

  static async open(): Promise<GatewayProcess> {
    const opened = new GatewayProcess(await mkdtemp(path.join(tmpdir(), 'microdollar-holds-')));
    await opened.start();
    return opened;
  }

  async start(): Promise<void> {
    const port = this.url === '' ? '0' : new URL(this.url).port;
    const worker = programPath('test/support/gatewayWorker.ts');
    const args = [worker, fixture.database.url, this.#dataDir, port, upstream.url, 'strict'];
    for (let line = ''; line === ''; ) {
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      this.#child = child;
      // Ended before it said anything: somebody else has the port for the moment.
      [line] = (await Promise.race([
        once(createInterface({ input: child.stdout }), 'line'),
        once(child, 'close').then(() => ['']),
      ])) as [string];
      if (line !== '') this.url = line;
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null) return;
    const ended = once(child, 'close');
    child.kill(signal);
    await ended;
  }

  async close(): Promise<void> {
    await this.end('SIGKILL');
    await rm(this.#dataDir, { recursive: true, force: true });
  }
}

interface Payer {
  key: string;
  organization: string;
}

const seen: Record<string, number> = {};

/** A request of any size, of whose client some leave. What it ended with is counted. */
async function askOnce(random: Random, { key, organization }: Payer, url: string): Promise<string> {
  const leaving = random.next() < 0.15 ? AbortSignal.timeout(random.between(1, 40)) : null;
  const limit = random.between(20, 400);
  const isMessages = random.next() < 0.3;
  const body = {
    model: isMessages ? 'claude-sonnet-4-5' : 'gpt-4.1',
    messages: [{ role: 'user', content: `[[use ${random.between(0, 500)}]]` }],
    stream: random.next() < 0.5,
    ...(random.next() < 0.9 ? { max_tokens: limit } : {}),
    ...(isMessages || random.next() < 0.8 ? {} : { n: 2 }),
  };
  const headers = {
    authorization: `Bearer ${key}`,
    'x-microdollar-organization-id': organization,
    ...(random.next() < 0.5 ? { 'x-microdollar-project': 'p' } : {}),
  };
  const outcome = await fetch(`${url}/v1/${isMessages ? 'messages' : 'chat/completions'}`, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
    ...(leaving === null ? {} : { signal: leaving }),
  })
    .then(async (response) => {
      await response.text();
      const isLowered = response.headers.has('x-microdollar-output-limit');
      return `${response.status}${isLowered ? ' lowered' : ''}`;
    })
    .catch(() => 'cut');
  seen[outcome] = (seen[outcome] ?? 0) + 1;
  // It may be starting again, or take a busy machine for a database that is away.
  if (outcome === 'cut' || outcome === '503') await sleep(100);
  return outcome;
}

const isEveryWayMet = () =>
  ['200', '200 lowered', 'cut'].every((way) => seen[way]) && Boolean(seen['402'] ?? seen['429']);

async function newBudgets(): Promise<{ organization: string; keys: string[]; users: string[] }> {
  const organization = await fixture.addOrganization();
  const payer = { organization };
  await acquire(fixture, payer, 700_000);
  const users = [await fixture.addUser(), await fixture.addUser()];
  const keys: { id: string; key: string }[] = [];
  for (const kilo_user_id of users) {
    await addOrganizationMember(fixture.database.pool, organization, kilo_user_id);
    const wanted = { kilo_user_id, scopes: ['gateway' as const] };
    keys.push(await createApiKey(fixture.database.pool, wanted));
  }
  const [user = ''] = users;
  const key = keys[1]?.id ?? '';
  await addBudget(fixture, { scope: 'organization', payer, limit: 650_000, period: 'month' });
  await addBudget(fixture, { scope: 'member', payer, user, limit: 250_000, period: 'week' });
  await addBudget(fixture, { scope: 'key', payer, key, limit: 280_000, period: 'total' });
  // Not by day: midnight may come.
  await addBudget(fixture, {
    scope: 'project',
    payer,
    project: 'p',
    limit: 300_000,
    period: 'total',
  });
  return { organization, keys: keys.map(({ key: secret }) => secret), users };
}

/** Nobody's hold is left: what is dead was released, what was begun is recorded. */
async function untilAllIsClosed(): Promise<void> {
  const keeper = new BudgetKeeper({
    query: queryOnPool(fixture.database.pool, false),
    folder: ledger.budgetFolder,
    onError: (error) => {
      throw error;
    },
    leaseMs: 1_000,
  });
  const countOpen = async () => {
    await keeper.releaseDead();
    const [row] = await fixture.rows<{ open: string }>(
      `select (select count(*) from gateway_intents) + (
         select count(*) from usage_holds as h
         where h.released_at is null
           and not exists (select from microdollar_usage as m where m.id = h.id)) as open`,
    );
    return row?.open;
  };
  await expect.poll(countOpen, { timeout: 120_000 }).toBe('0');
}

it('budgets of every scope are never passed, though clients leave and gateways are killed', async () => {
  const { organization, keys, users } = await newBudgets();
  const payer = { organization };
  let isDone = false;
  const found = new Set<string>();
  const checking = (async () => {
    while (!isDone) {
      for (const each of await checkInvariants(fixture.database.pool)) found.add(each);
      for (const each of await checkNeverExceeds(fixture.database.pool)) found.add(each);
      await sleep(50);
    }
  })();
  const { waits, samples } = await sampleWriteWaits(
    fixture.database.pool,
    async (sampling) => {
      let sent = 0;
      const callers = Array.from({ length: CALLERS }, async (_, caller) => {
        const random = createRandom(16, String(caller));
        // Who was not let in has not asked; and on until every way to end was met.
        for (let n = 0; n < REQUESTS || !isEveryWayMet(); ) {
          const key = keys[caller % keys.length] ?? '';
          const { url } = random.pick(gateways);
          if ((await askOnce(random, { key, organization }, url)) === '503') continue;
          n++;
          sent++;
        }
      });
      const killing = (async () => {
        for (const [index, gateway] of gateways.entries()) {
          while (sent < (CALLERS * REQUESTS * (index + 1)) / 4) await sleep(5);
          await gateway.end('SIGKILL');
          await gateway.start();
        }
      })();
      await Promise.all([...callers, killing]);
      while (sampling.samples <= 20) await sleep(5);
    },
    HOLDING,
  );
  await untilAllIsClosed();
  isDone = true;
  await checking;
  expect([...found]).toEqual([]);
  expect(samples).toBeGreaterThan(20);
  expect(waits).toEqual([]);
  // Every way to end was met.
  expect(Object.keys(seen)).toEqual(expect.arrayContaining(['200', '200 lowered', 'cut']));
  expect((seen['402'] ?? 0) + (seen['429'] ?? 0)).toBeGreaterThan(0);

  await Promise.all(gateways.map((gateway) => gateway.end('SIGTERM')));
  await foldBudgets(ledger, payer);
  await expectWhole(fixture);
  const windows = await windowsOf(fixture, organization);
  expect(windows).toHaveLength(5);
  for (const { held, limit, spent, carry, slots } of windows) {
    expect({ held, left: carry + slots }).toEqual({ held: 0, left: limit - spent });
  }
  // What is left of the project's is granted to the last microdollar.
  const of = (scope: string) => windows.find((each) => each.scope === scope && !each.is_balance);
  const project = of('project');
  const left = (project?.limit ?? 0) - (project?.spent ?? 0);
  const request = { kilo_user_id: users[1] ?? '', organization_id: organization, project_id: 'p' };
  const refused = await ledger.hold({ ...request, amount: left + 1 });
  expect(refused).toMatchObject({ status: 'refused', available_microdollars: left });
  expect(await ledger.hold({ ...request, amount: left })).toMatchObject({ status: 'granted' });
  await expectWhole(fixture);
}, 180_000);
