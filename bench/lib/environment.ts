import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

/** Versions and settings that a figure depends on; names nothing of the machine's owner. */
export interface Environment {
  microdollar: string;
  commit: string;
  postgres: string;
  node: string;
  platform: string;
  cores: number;
  cpu: string;
  memoryGiB: number;
  settings: Record<string, string>;
  /** One client, one row, fsync: what a durable commit costs here, p50. */
  commitMs: number;
}

const SHOWN = ['wal_sync_method', 'wal_level', 'autovacuum', 'jit'];

export async function readEnvironment(
  url: string,
  settings: Readonly<Record<string, string>>,
): Promise<Environment> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const shown: Record<string, string> = {};
    for (const name of [...Object.keys(settings), ...SHOWN]) {
      const result = await client.query('select current_setting($1) as value', [name]);
      shown[name] = result.rows[0].value;
    }
    const version = await client.query('show server_version');
    const [cpu] = cpus();
    return {
      microdollar: packageVersion(),
      commit: currentCommit(),
      postgres: version.rows[0].server_version,
      node: process.versions.node,
      platform: `${process.platform} ${process.arch}`,
      cores: availableParallelism(),
      cpu: cpu?.model ?? 'unknown',
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      settings: shown,
      commitMs: await measureCommit(client),
    };
  } finally {
    await client.end();
  }
}

/** Share of processor time that nobody used for a second, 0 to 1: whether figures can be trusted. */
export async function measureIdle(): Promise<number> {
  const before = sumTimes();
  await sleep(1_000);
  const after = sumTimes();
  return Number(((after.idle - before.idle) / (after.all - before.all)).toFixed(2));
}

function sumTimes(): { idle: number; all: number } {
  const times = cpus().map((cpu) => cpu.times);
  const idle = times.reduce((sum, each) => sum + each.idle, 0);
  const all = times.reduce((sum, { user, nice, sys, idle: free, irq }) => {
    return sum + user + nice + sys + free + irq;
  }, 0);
  return { idle, all };
}

async function measureCommit(client: pg.Client): Promise<number> {
  await client.query('create table bench_commits (n integer)');
  const timesMs: number[] = [];
  for (let n = 0; n < 200; n++) {
    const startedAt = performance.now();
    await client.query('insert into bench_commits values ($1)', [n]);
    timesMs.push(performance.now() - startedAt);
  }
  await client.query('drop table bench_commits');
  timesMs.sort((a, b) => a - b);
  return Number((timesMs[100] as number).toFixed(3));
}

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  return JSON.parse(readFileSync(file, 'utf8')).version;
}

/** With a mark when the tree differs from it. */
function currentCommit(): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    const isChanged = git('status', '--porcelain', '--untracked-files=no') !== '';
    return `${git('rev-parse', '--short=10', 'HEAD')}${isChanged ? '+' : ''}`;
  } catch {
    return 'unknown';
  }
}
