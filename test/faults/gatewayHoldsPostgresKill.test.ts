import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changeBudget } from '../../src/budgets/budgets.js';
import { budgetStore } from '../integration/alertHarness.js';
import { acquire, addBudget, foldBudgets, windowsOf } from '../integration/budgetHarness.js';
import { startTestGateway, type TestGateway } from '../integration/gatewayHarness.js';
import { checkInvariants, checkNeverExceeds } from '../support/checkInvariants.js';
import { createRandom, type Random } from '../support/random.js';
import { type ReplayUpstream, startReplayUpstream } from '../support/replayUpstream.js';
import { scriptProvider } from '../support/scriptedProvider.js';
import { type Cluster, startCluster } from './support/cluster.js';
import { KILLS, SEED } from './support/scale.js';

const ROUNDS = Math.max(2, Math.floor(KILLS / 10));
const CALLERS = 8;
/** Answered before each kill, so that it finds holds, intents and usage in flight. */
const ANSWERS_BETWEEN = 25;

let cluster: Cluster;
let upstream: ReplayUpstream;
let gateway: TestGateway;
let dataDir: string;

beforeAll(async () => {
  cluster = await startCluster();
  upstream = await startReplayUpstream();
  scriptProvider(upstream);
  dataDir = await mkdtemp(path.join(tmpdir(), 'microdollar-holds-'));
  const { url, pool } = cluster;
  const database = { name: 'killed', url, pool, drop: async () => {} };
  gateway = await startTestGateway({
    holds: 'strict',
    durability: { databaseTimeoutMs: 1_000, maintenanceIntervalMs: 100 },
    after: { database, dataDir, upstream } as unknown as TestGateway,
  });
});
afterAll(async () => {
  await gateway?.halt();
  await upstream?.close();
  await cluster?.stop();
  await rm(dataDir, { recursive: true, force: true });
});

const seen: Record<string, number> = {};

async function ask(random: Random, key: string, organization: string): Promise<void> {
  const leaving = random.next() < 0.1 ? AbortSignal.timeout(random.between(1, 40)) : null;
  const headers = {
    authorization: `Bearer ${key}`,
    'x-microdollar-organization-id': organization,
    ...(random.next() < 0.5 ? { 'x-microdollar-project': 'p' } : {}),
  };
  const body = JSON.stringify({
    model: 'gpt-4.1',
    messages: [{ role: 'user', content: `[[use ${random.between(0, 300)}]]` }],
    stream: random.next() < 0.5,
    max_tokens: random.between(20, 300),
  });
  const outcome = await fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers,
    body,
    ...(leaving && { signal: leaving }),
  })
    .then(async (response) => {
      await response.text();
      return String(response.status);
    })
    .catch(() => 'left');
  seen[outcome] = (seen[outcome] ?? 0) + 1;
  if (outcome !== '200') await sleep(20);
}

/** Two budgets beside the balance; the first is raised meanwhile, and never lowered. */
async function newPayer() {
  const { id: user, key } = await gateway.newUser({ usd: 0 });
  const organization = await gateway.newOrganization(0, user);
  const payer = { organization };
  await acquire(gateway, payer, 100_000_000);
  const common = { payer, period: 'total' } as const;
  const raised = await addBudget(gateway, { ...common, scope: 'organization', limit: 50_000 });
  await addBudget(gateway, { ...common, scope: 'project', project: 'p', limit: 400_000 });
  return { user, key, organization, raised };
}

/** What a server that is away answers; whatever else fails the test. */
const whileAway = <T>(work: Promise<T>, otherwise: T) =>
  work.catch(async (error: { code?: string; message?: string }) => {
    await sleep(20);
    if (error.code === 'not_found' || error.code === 'invalid_request') throw error;
    return otherwise;
  });

describe('SIGKILL of PostgreSQL under a gateway that holds', () => {
  it('passes no budget and strands nothing, also where limits are raised meanwhile', async () => {
    const { user, key, organization, raised } = await newPayer();
    const found = new Set<string>();
    let isDone = false;
    const checking = (async () => {
      while (!isDone) {
        for (const check of [checkInvariants, checkNeverExceeds]) {
          for (const each of await whileAway(check(cluster.pool), [])) found.add(each);
        }
        await sleep(50);
      }
    })();
    const raising = (async () => {
      for (let limit = 60_000; !isDone; limit += 10_000) {
        const change = { limit_usd: String(limit / 1e6) };
        await whileAway(changeBudget(budgetStore(gateway.ledger), raised, change), null);
        await sleep(100);
      }
    })();
    const callers = Array.from({ length: CALLERS }, async (_, caller) => {
      const random = createRandom(SEED, `holds ${caller}`);
      while (!isDone) await ask(random, key, organization);
    });
    for (let round = 0; round < ROUNDS; round++) {
      const before = seen['200'] ?? 0;
      while ((seen['200'] ?? 0) < before + ANSWERS_BETWEEN) await sleep(5);
      await cluster.kill();
      await cluster.restart();
    }
    const before = seen['200'] ?? 0;
    while ((seen['200'] ?? 0) < before + ANSWERS_BETWEEN) await sleep(5);
    isDone = true;
    await Promise.all([checking, raising, ...callers]);
    expect([...found]).toEqual([]);
    // Met by a caller, or by what the ledger sent again: PostgreSQL may be back before anybody is refused.
    const { values: retries } = await gateway.ledger.metrics.retries.get();
    const met = retries.reduce((sum, { value }) => sum + value, seen['503'] ?? 0);
    expect(met).toBeGreaterThan(0);

    // Everything ends by itself, in the process that lives: usage from its journal, and what was held for nothing.
    const open = `select h.id, g.id is not null as has_intent from usage_holds as h
      left join gateway_intents as g on g.id = h.id
      where h.released_at is null
        and not exists (select from microdollar_usage as m where m.id = h.id)`;
    await expect.poll(() => gateway.rows(open), { timeout: 60_000 }).toEqual([]);
    await foldBudgets(gateway.ledger, { organization });
    expect(await checkInvariants(cluster.pool)).toEqual([]);
    expect(await checkNeverExceeds(cluster.pool)).toEqual([]);
    const windows = await windowsOf(gateway, organization);
    expect(windows).toHaveLength(3);
    for (const { held, limit, spent, carry, slots } of windows) {
      expect({ held, left: carry + slots }).toEqual({ held: 0, left: limit - spent });
    }
    const left = Math.min(...windows.map(({ limit, spent }) => limit - spent));
    const all = { kilo_user_id: user, organization_id: organization, project_id: 'p' };
    expect(await gateway.ledger.hold({ ...all, amount: left + 1 })).toMatchObject({
      status: 'refused',
      available_microdollars: left,
    });
    expect(await gateway.ledger.hold({ ...all, amount: left })).toMatchObject({
      status: 'granted',
    });
    expect(await checkNeverExceeds(cluster.pool)).toEqual([]);
  }, 180_000);
});
