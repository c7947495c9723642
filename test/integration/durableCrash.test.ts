import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readDeadLetters } from '../../src/journal/deadLetters.js';
import { journalRoot } from '../../src/journal/slots.js';
import { IS_LONG } from '../faults/support/scale.js';
import { checkFolded, checkInvariants } from '../support/checkInvariants.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { inForm } from '../support/form.js';
import { count, createUser, makeDataDir, openGateway, until } from '../support/gateway.js';
import { programPath } from '../support/programs.js';
import { openRelay, type Relay } from '../support/relay.js';

/** Two processes are killed a round. */
const ROUNDS = Number(process.env.MICRODOLLAR_CRASH_ROUNDS ?? (IS_LONG ? 50 : inForm(2, 5)));
const SETTLED_A_ROUND = 20;
const SCRIPT = 'test/support/journalWorker.ts';

let database: TestDatabase;
let relay: Relay;
let place: ReturnType<typeof makeDataDir>;
let user: string;
const begun = new Set<string>();
const settled = new Map<string, number>();
const abandoned = new Set<string>();

beforeEach(async () => {
  database = await createTestDatabase();
  relay = await openRelay(database.url);
  place = makeDataDir();
  user = await createUser(database.pool);
});

afterEach(async () => {
  await relay.close();
  await database.drop();
  place.remove();
});

interface Worker {
  child: ChildProcess;
  ready: Promise<void>;
  kill(): Promise<void>;
}

function startWorker(): Worker {
  const child = spawn(process.execPath, [programPath(SCRIPT), relay.url, place.dataDir, user], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const read = once(lines, 'close');
  const ready = new Promise<void>((resolve, reject) => {
    lines.on('line', (line) => {
      const [word, id = '', cost = ''] = line.split(' ');
      if (word === 'ready') resolve();
      // A line that the kill cut short was not told to anyone.
      else if (id.length !== 36) return;
      else if (word === 'begun') begun.add(id);
      else if (word === 'abandoned') abandoned.add(id);
      else if (word === 'settled' && /^\d+$/.test(cost)) settled.set(id, Number(cost));
    });
    ended.then(() => reject(new Error('the worker ended before it was ready')), reject);
  });
  ready.catch(() => {});
  return {
    child,
    ready,
    async kill() {
      child.kill('SIGKILL');
      await ended;
      await read;
    },
  };
}

describe('SIGKILL at any moment', () => {
  it(
    'loses nothing that was acknowledged and records nothing twice',
    async () => {
      for (let round = 0; round < ROUNDS; round++) {
        const workers = [startWorker(), startWorker()];
        await Promise.all(workers.map((worker) => worker.ready));
        const before = settled.size;
        // Every other round the database goes away midway; then it is back before the kill, or
        // the journal is left to the next round, which is killed while it drains.
        // One in four is killed at its very start, the others amid their work, however slow it is.
        const isEarly = round % 4 === 0;
        const momentMs = isEarly ? 5 : 150;
        await sleep(Math.random() * momentMs);
        if (round % 2 === 1) await relay.cut();
        await sleep(Math.random() * momentMs);
        if (round % 4 === 1) await relay.restore();
        if (!isEarly) await until(() => settled.size >= before + SETTLED_A_ROUND);
        await sleep(Math.random() * momentMs);
        await Promise.all(workers.map((worker) => worker.kill()));
        await relay.restore();
      }

      const gateway = await openGateway(relay.url, place.dataDir);
      await until(async () => {
        await gateway.maintain();
        const intents = await count(database.pool, 'gateway_intents');
        return gateway.sink.status().depthRecords === 0 && intents === 0;
      });
      // A write of a killed process may still have been under way in the server.
      await until(
        async () =>
          (await count(
            database.pool,
            'pg_stat_activity',
            `datname = current_database() and state = 'active' and pid <> pg_backend_pid()`,
          )) === 0,
      );
      await gateway.maintain();
      await gateway.ledger.fold();
      expect(await checkInvariants(database.pool)).toEqual([]);
      expect(await checkFolded(database.pool)).toEqual([]);
      expect(await readDeadLetters(journalRoot(place.dataDir))).toEqual([]);

      const { rows } = await database.pool.query<{ id: string; cost: number; kind: string }>(
        `select coalesce(m.adjusts_usage_id, u.id) as id, sum(u.cost)::int as cost,
          string_agg(coalesce(m.estimated, 'real'), ',') as kind
        from microdollar_usage as u
        left join microdollar_usage_metadata as m on m.id = u.id
        group by 1`,
      );
      const recorded = new Map(rows.map((row) => [row.id, row]));
      expect(settled.size).toBeGreaterThanOrEqual(Math.floor(ROUNDS / 2) * SETTLED_A_ROUND);
      const lost = [...settled].filter(([id, cost]) => recorded.get(id)?.cost !== cost);
      expect(lost).toEqual([]);
      const estimatedThoughSettled = [...settled.keys()].filter(
        (id) => recorded.get(id)?.kind !== 'real',
      );
      expect(estimatedThoughSettled).toEqual([]);
      expect([...begun].filter((id) => !recorded.has(id))).toEqual([]);
      expect([...abandoned].filter((id) => recorded.has(id))).toEqual([]);
      const total = rows.reduce((sum, row) => sum + row.cost, 0);
      expect(await gateway.ledger.getUserBalance(user)).toBe(total);
      await gateway.stop();
      console.info(
        `${ROUNDS * 2} kills: ${settled.size} settled, ` +
          `${begun.size - settled.size} begun and cut off, ${abandoned.size} abandoned`,
      );
    },
    180_000 + ROUNDS * 15_000,
  );
});
