import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import type { UsageEvent } from '../../src/record/types.js';
import type { ArchiveStep } from '../../src/rollup/archive/types.js';
import { verifyBalances } from '../../src/rollup/balances.js';
import { IS_LONG } from '../faults/support/scale.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { inForm } from '../support/form.js';
import { programPath } from '../support/programs.js';
import { type ArchiveFixture, createArchiveFixture, daysAgo } from './archiveHarness.js';

const WORKER = 'test/support/archiveWorker.ts';
/** Each kill comes shortly after one of these; then at any. */
const STEPS: readonly (ArchiveStep | null)[] = [
  'horizon raised',
  'moved',
  'fenced',
  'written',
  'named',
  'proven',
  'day archived',
  ...Array(IS_LONG ? 13 : 1).fill(null),
];
const KILLS = STEPS.length;
const OLDEST = 9;
/** By which the horizon rises over all kills. */
const DAYS = 5;
const USERS = 5;

let fixture: ArchiveFixture;
let organization: string;

beforeEach(async () => {
  fixture = await createArchiveFixture();
  for (let user = 0; user < USERS; user++) await fixture.addUser(`user-${user}`);
  organization = await fixture.addOrganization();
});

afterEach(() => fixture.close());

function makeEvent(ageDays: number): UsageEvent & { id: string } {
  const at = Date.parse(`${daysAgo(ageDays)}T00:00:00Z`) + randomInt(86_000_000);
  return {
    id: randomUUID(),
    kilo_user_id: `user-${randomInt(USERS)}`,
    organization_id: randomInt(4) === 0 ? organization : null,
    cost: randomInt(10) === 0 ? 0 : randomInt(-200, 3000),
    created_at: new Date(Math.min(at, Date.now())),
    metadata: randomInt(2) === 0 ? { status_code: 200, http_ip: `192.0.2.${randomInt(9)}` } : null,
  };
}

interface Written {
  recorded: Set<string>;
  refused: Set<string>;
  /** Events that were recorded first and refused when sent again. */
  refusedReplays: number;
}

/** Writes into every day, archived or not, and sends earlier ones again; tells what became of it. */
function startWriters(ledger: Ledger): { written: Written; stop(): Promise<void> } {
  const written: Written = { recorded: new Set(), refused: new Set(), refusedReplays: 0 };
  let isStopping = false;
  const sent: (UsageEvent & { id: string })[] = [];
  const send = async (event: UsageEvent & { id: string }) => {
    try {
      await ledger.recordUsage(event);
      return true;
    } catch (error) {
      if (error instanceof LedgerError && error.code === 'archived_period') return false;
      throw error;
    }
  };
  const write = async () => {
    while (!isStopping) {
      const event = makeEvent(randomInt(OLDEST + 1));
      const isRecorded = await send(event);
      (isRecorded ? written.recorded : written.refused).add(event.id);
      await sleep(inForm(40, 5));
      if (isRecorded) sent.push(event);
      const again = sent[randomInt(Math.max(1, sent.length))];
      if (again && !(await send(again))) written.refusedReplays++;
    }
  };
  const writers = Promise.all(Array.from({ length: 4 }, write));
  return {
    written,
    async stop() {
      isStopping = true;
      await writers;
    },
  };
}

function startWorker(until: string): ChildProcess {
  return spawn(
    process.execPath,
    [programPath(WORKER), fixture.database.url, until, fixture.directory],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
}

/** Kills the worker at a random moment behind a step; the step it had reached. */
async function killAfter(worker: ChildProcess, step: ArchiveStep | null): Promise<string> {
  let stepsLeft = step === null ? randomInt(1, 25) : 1;
  let last = 'start';
  const lines = createInterface({ input: worker.stdout as NodeJS.ReadableStream });
  for await (const line of lines) {
    last = line;
    if (step === null || line === step) stepsLeft--;
    if (stepsLeft > 0) continue;
    await sleep(Math.random() * 12);
    worker.kill('SIGKILL');
    break;
  }
  if (worker.exitCode === null && worker.signalCode === null) await once(worker, 'exit');
  return last;
}

async function finish(worker: ChildProcess): Promise<void> {
  worker.stdout?.resume();
  const [status] = await once(worker, 'exit');
  expect(status).toBe(0);
}

describe('an archive that is killed', () => {
  it(`${KILLS} times, beside live writers, loses nothing and doubles nothing`, async () => {
    const first = Array.from({ length: 500 }, (_, index) => makeEvent(index % (OLDEST + 1)));
    await fixture.record(first);
    await fixture.prove();
    const ledger = await fixture.open({ backgroundFold: true });
    const { written, stop } = startWriters(ledger);
    const reached: string[] = [];
    for (const [kill, step] of STEPS.entries()) {
      // The horizon rises while events for the days above it keep coming.
      const until = daysAgo(OLDEST - Math.floor((DAYS * kill) / KILLS));
      reached.push(await killAfter(startWorker(until), step));
      expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    }
    const until = daysAgo(OLDEST - DAYS);
    await finish(startWorker(until));
    await stop();

    await fixture.expectExact();
    const balances = await verifyBalances({ url: fixture.database.url });
    expect(balances).toMatchObject({ drifted: 0 });
    const archived = (await fixture.archived()).map((event) => event.id);
    const raw = await fixture.rawIds();
    const recorded = [...first.map((event) => event.id), ...written.recorded];
    expect([...archived, ...raw].sort()).toEqual(recorded.sort());
    expect(archived.length).toBeGreaterThan(250);
    expect(written.refused.size).toBeGreaterThan(0);
    expect(written.refusedReplays).toBeGreaterThan(0);
    expect(reached).toContain('horizon raised');
    expect(
      await fixture.rows('select from microdollar_usage where created_at < $1::date + 1', [until]),
    ).toEqual([]);
  }, 360_000);
});
