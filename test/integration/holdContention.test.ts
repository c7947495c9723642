import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setAlert } from '../../src/alerts/alerts.js';
import { BudgetKeeper } from '../../src/budgets/keeper.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { checkInvariants, checkNeverExceeds } from '../support/checkInvariants.js';
import { inForm } from '../support/form.js';
import type { HoldJob, HoldReport } from '../support/holdWorker.js';
import { programPath } from '../support/programs.js';
import { eventsOf } from './alertHarness.js';
import {
  acquire,
  addBudget,
  addPayer,
  expectWhole,
  foldBudgets,
  type NewBudget,
  windowsOf,
} from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** `CONTENTION_SCALE=20` runs twenty times the holds. */
const SCALE = Number(process.env.CONTENTION_SCALE ?? 1);
const PROCESSES = 4;

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open();
});

afterAll(() => fixture.close());

interface Worker {
  child: ChildProcess;
  begin(): void;
  /** Null: it was killed. */
  report(): Promise<HoldReport | null>;
}

async function startWorker(job: HoldJob): Promise<Worker> {
  const args = [
    programPath('test/support/holdWorker.ts'),
    fixture.database.url,
    JSON.stringify(job),
  ];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe('ready');
  return {
    child,
    begin: () => child.stdin.write('go\n'),
    report: async () => {
      const { value } = await lines.next();
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      return value === undefined ? null : (JSON.parse(value) as HoldReport);
    },
  };
}

/** Runs processes together, with the checks in snapshots beside them. */
async function runTogether(
  job: Omit<HoldJob, 'process'>,
  beside: (workers: readonly Worker[]) => Promise<void> = async () => {},
): Promise<(HoldReport | null)[]> {
  const workers = await Promise.all(
    Array.from({ length: PROCESSES }, (_, process) => startWorker({ ...job, process })),
  );
  let isDone = false;
  const found: string[] = [];
  const sampling = (async () => {
    while (!isDone) {
      found.push(...(await checkInvariants(fixture.database.pool)));
      found.push(...(await checkNeverExceeds(fixture.database.pool)));
      await sleep(inForm(100, 20));
    }
  })();
  for (const worker of workers) worker.begin();
  await beside(workers);
  const reports = await Promise.all(workers.map((worker) => worker.report()));
  isDone = true;
  await sampling;
  expect([...new Set(found)]).toEqual([]);
  return reports;
}

/** What is left of a window after everything was settled or released is granted to the last bit. */
async function expectNothingStranded(payer: string, more: object): Promise<void> {
  const isUser = payer.startsWith('user');
  await foldBudgets(ledger, isUser ? { user: payer } : { organization: payer });
  await expectWhole(fixture);
  const windows = await windowsOf(fixture, payer);
  for (const { held, limit, spent, carry, slots } of windows) {
    expect({ held, left: carry + slots }).toEqual({ held: 0, left: limit - spent });
  }
  const left = Math.min(...windows.map(({ limit, spent }) => limit - spent));
  const request = { kilo_user_id: payer, ...more };
  expect(await ledger.hold({ ...request, amount: left + 1 })).toMatchObject({
    status: 'refused',
    available_microdollars: left,
  });
  expect(await ledger.hold({ ...request, amount: left })).toMatchObject({ status: 'granted' });
}

describe('many callers in several processes', () => {
  it('never pass the balance of one payer, and strand nothing', async () => {
    const user = await addPayer(fixture, inForm(20_000, 40_000));
    const requests = [
      { kilo_user_id: user, organization_id: null, api_key_id: null, project_id: null },
    ];
    const reports = await runTogether({
      seed: 1,
      callers: 32,
      holdsPerCaller: inForm(4, 8) * SCALE,
      requests,
      largest: 200,
    });
    expect(reports.flatMap((report) => report?.errors ?? ['killed'])).toEqual([]);
    expect(reports.reduce((sum, report) => sum + (report?.refused ?? 0), 0)).toBeGreaterThan(0);
    await expectNothingStranded(user, {});
  });

  it('never pass a budget of any scope, though processes are killed and limits change', async () => {
    const organization = await fixture.addOrganization();
    const payer = { organization };
    await acquire(fixture, payer, 50_000);
    const users = [await fixture.addUser(), await fixture.addUser(), await fixture.addUser()];
    const [user = ''] = users;
    const key = randomUUID();
    const budgets: NewBudget[] = [
      { scope: 'organization', payer, limit: 45_000, period: 'month' },
      { scope: 'member', payer, user, limit: 15_000 },
      { scope: 'key', payer, key, limit: 12_000, period: 'week' },
      { scope: 'project', payer, project: 'p', limit: 8_000, period: 'total' },
    ];
    // Every few holds something is crossed (I15).
    const watched = { organization_id: organization };
    for (const budget of budgets) {
      await setAlert(ledger.alertStore, {
        kind: 'budget',
        budget_id: await addBudget(fixture, budget),
        thresholds_percent: [1, 2, 5, 10, 20, 40, 60, 80, 95, 100],
      });
    }
    await setAlert(ledger.alertStore, { kind: 'balance', ...watched, below_usd: '0.05' });
    await setAlert(ledger.alertStore, { kind: 'spend', ...watched, floor_usd: '0.005' });
    const requests = users.flatMap((id) =>
      [null, key].flatMap((api_key_id) =>
        [null, 'p'].map((project_id) => ({
          kilo_user_id: id,
          organization_id: organization,
          api_key_id,
          project_id,
        })),
      ),
    );
    const job = { seed: 2, callers: 24, holdsPerCaller: 12 * SCALE, requests, largest: 120 };
    const reports = await runTogether(job, async (workers) => {
      await sleep(400);
      workers[0]?.child.kill('SIGKILL');
      await acquire(fixture, payer, 1_000);
      await fixture.rows(
        `update budgets set raise_microdollars = 500, raise_until = now() + interval '1 hour'
         where scope = 'key' and payer_id = $1`,
        [organization],
      );
      await sleep(200);
      workers[1]?.child.kill('SIGKILL');
    });
    expect(reports.flatMap((report) => report?.errors ?? [])).toEqual([]);
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
        `select count(*) as open from usage_holds as h where h.released_at is null
           and not exists (select from microdollar_usage as m where m.id = h.id)`,
      );
      return row?.open;
    };
    await expect.poll(countOpen, { timeout: 120_000 }).toBe('0');
    await foldBudgets(ledger, payer);
    await expectWhole(fixture);
    expect((await eventsOf(fixture, organization)).length).toBeGreaterThan(20);
    expect((await windowsOf(fixture, organization)).map(({ held }) => held)).toEqual([
      0, 0, 0, 0, 0,
    ]);
    const { limit = 0, spent = 0 } =
      (await windowsOf(fixture, organization)).find(({ scope }) => scope === 'project') ?? {};
    const request = {
      kilo_user_id: users[1] ?? '',
      organization_id: organization,
      project_id: 'p',
    };
    expect(await ledger.hold({ ...request, amount: limit - spent + 1 })).toMatchObject({
      status: 'refused',
    });
    expect(await ledger.hold({ ...request, amount: limit - spent })).toMatchObject({
      status: 'granted',
    });
    await expectWhole(fixture);
  });
});
