import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startChaosProxy } from '../../faults/support/chaosProxy.js';
import { type Cluster, startCluster } from '../../faults/support/cluster.js';
import { createRandom, type Random } from '../../faults/support/scale.js';
import { checkInvariants } from '../../support/checkInvariants.js';
import { BookWriter } from './book.js';
import { createCast, IS_FOREIGN } from './cast.js';
import { ROLES, type Role, type RoleProcess, startRole } from './processes.js';
import { type Verdict, verdictOf } from './verdict.js';

const CHECK_EVERY_MS = 4_000;

/**
 * Every process at once for a while, under every fault; then what became of it. The choices follow
 * from FAULT_SEED; how they meet does not.
 */
export async function runChaos(seconds: number): Promise<Verdict> {
  const dir = mkdtempSync(path.join(tmpdir(), 'microdollar-chaos-'));
  const cluster = await startCluster({
    settings: {
      max_prepared_transactions: '30',
      max_connections: '200',
      deadlock_timeout: '300ms',
    },
  });
  try {
    await createCast(cluster.pool);
    // What the faults did is noted as what the processes did is.
    const book = new BookWriter(dir, 'faults');
    const problems = await runFaults(cluster, dir, seconds, book);
    problems.push(...readDeadlocks(cluster));
    const verdict = await verdictOf(cluster, dir);
    return { ...verdict, problems: [...new Set([...problems, ...verdict.problems])] };
  } finally {
    await cluster.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

async function runFaults(
  cluster: Cluster,
  dir: string,
  seconds: number,
  book: BookWriter,
): Promise<string[]> {
  const random = createRandom('chaos');
  await using proxy = await startChaosProxy(cluster.url, {
    random,
    faultShare: 0.01,
    hangMs: 1_000,
  });
  const startMs = Date.now();
  const processes = Object.entries(ROLES).map(([role, isCut]) =>
    startRole(role as Role, isCut ? proxy.url : cluster.url, dir, startMs),
  );
  const problems: string[] = [];
  await Promise.all(processes.map(({ ready }) => ready));
  const untilMs = Date.now() + seconds * 1_000;
  const isOver = () => Date.now() >= untilMs;
  const loop = async (step: () => Promise<unknown>) => {
    while (!isOver()) await step();
  };
  await Promise.all([
    loop(async () => {
      problems.push(...(await checkBeside(cluster, book)));
      await sleep(CHECK_EVERY_MS);
    }),
    loop(() => endBackend(cluster, random, book)),
    loop(() => killSomething(cluster, processes, random, seconds, book)),
  ]);
  proxy.calm();
  const ends = await Promise.all(processes.map((each) => each.stop()));
  return [...problems, ...ends.flat()];
}

/** In one snapshot, beside everything that goes on; nothing while the server is away. */
async function checkBeside({ pool }: Cluster, book: BookWriter): Promise<string[]> {
  const violations = await checkInvariants(pool).catch(() => null);
  if (violations === null) return [];
  book.done('checked beside the writers');
  return violations.filter((each) => !IS_FOREIGN.test(each)).map((each) => `beside: ${each}`);
}

async function endBackend({ pool }: Cluster, random: Random, book: BookWriter): Promise<void> {
  await sleep(random.between(300, 2_000));
  await pool
    .query(
      `select pg_terminate_backend(pid)
      from pg_stat_activity
      where datname = current_database()
        and pid <> pg_backend_pid()
        and application_name ~ '^(microdollar|host)'
      order by random()
      limit 1`,
    )
    .then(() => book.done('FAULT backend ended'))
    .catch(() => {});
}

/** A process twice as often as the server; at least one of each in the shortest run. */
async function killSomething(
  cluster: Cluster,
  processes: readonly RoleProcess[],
  random: Random,
  seconds: number,
  book: BookWriter,
): Promise<void> {
  const pause = Math.min(20_000, seconds * 200);
  const replaceOne = async () => {
    await random.pick(processes).replace();
    book.done('FAULT process killed');
  };
  await sleep(random.between(pause / 2, pause));
  await replaceOne();
  await sleep(random.between(pause / 2, pause));
  if (random.next() < 0.5) return replaceOne();
  if (random.next() < 0.3) await cluster.killBackend(random.pick);
  else {
    await cluster.kill();
    await cluster.restart();
  }
  book.done('FAULT server killed');
}

/** Of the server's own log: its counters are lost by a kill. */
function readDeadlocks({ dataDir }: Cluster): string[] {
  const log = readFileSync(path.join(dataDir, 'postgres', 'server.log'), 'utf8').split('\n');
  return log.flatMap((line, index) =>
    line.includes('deadlock detected')
      ? [`deadlock: ${log.slice(index, index + 8).join(' | ')}`]
      : [],
  );
}
