import type { EventEmitter } from 'node:events';
import { chmod, readdir, readFile, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { beforeAll, describe, expect, it } from 'vitest';
import { runCli } from '../../src/cli/program.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { documentOf, useCli } from './cliHarness.js';

const cli = useCli();
const RANGE = ['--from', '2026-01-01', '--until', '2026-03-01'];

beforeAll(async () => {
  for (const user of ['ada', 'bob']) await cli.ask('user', 'create', user);
  const lines = Array.from({ length: 3_000 }, (_, index) =>
    JSON.stringify({
      kilo_user_id: index % 2 ? 'ada' : 'bob',
      cost: 1_000 + index,
      created_at: `2026-0${1 + (index % 2)}-${String(1 + (index % 28)).padStart(2, '0')}T12:00:00Z`,
    }),
  );
  await cli.ask('import', '--raw', await cli.file('usage.jsonl', lines.join('\n')));
});

/** A stream that takes so many writes, then fails as a disk or a pipe does. */
function failingStream(writes: number, code: string) {
  let left = writes;
  const state = { text: '' };
  const stream = new Writable({
    // As stdout: it is still there after its failure, and fails again.
    autoDestroy: false,
    write(chunk, _encoding, done) {
      if (left-- <= 0) {
        done(Object.assign(new Error(`${code}: write`), { code }));
        return;
      }
      state.text += String(chunk);
      done();
    },
  });
  return { stream, state };
}

async function runInto(stdout: Writable, ...argv: string[]) {
  const { stream: stderr, state } = failingStream(1_000, '');
  const env = { DATABASE_URL: cli.database.url, MICRODOLLAR_DATA_DIR: cli.dir };
  const status = await runCli(argv, { stdout, stderr }, env);
  return { status, stderr: state.text };
}

describe('an output that cannot be written', () => {
  it.each([
    ['ENOSPC', 'the disk is full (ENOSPC)'],
    ['EPIPE', 'its reader went away (EPIPE)'],
  ])('ends an export with 3 and one line, not a stack trace: %s', async (code, reason) => {
    const { stream } = failingStream(2, code);
    const run = await runInto(stream, 'export', ...RANGE);
    expect(run).toEqual({ status: 3, stderr: `error: the output cannot be written: ${reason}\n` });
  });

  it('is told of an answer as well, though the work was done', async () => {
    const run = await runInto(failingStream(0, 'ENOSPC').stream, 'user', 'create', 'cid');
    expect(run).toMatchObject({ status: 3, stderr: expect.stringContaining('the disk is full') });
    expect((await cli.run('user', 'show', 'cid')).status).toBe(0);
  });

  it('names a file that cannot be written', async () => {
    const run = await cli.run('export', ...RANGE, '--out', '/dev/full');
    expect(run).toMatchObject({ status: 3, stdout: '' });
    expect(run.stderr).toContain('the disk is full, and nothing of the export is kept');
  });

  it('gives a file its name, and the rights of the one before, when it is whole', async () => {
    const out = await cli.file('linked.csv', 'of before\n');
    await chmod(out, 0o640);
    const link = join(cli.dir, 'link.csv');
    await symlink(out, link);
    const argv = ['export', ...RANGE, '--out', link];
    expect((await cli.ask(...argv, '--overwrite')).document).toMatchObject({ rows: 3_000 });
    expect((await readFile(out, 'utf8')).split('\n').length).toBeGreaterThan(3_000);
    expect((await stat(out)).mode & 0o777).toBe(0o640);
  });

  it('replaces no file unless it is told to, and then not with a part', async () => {
    const out = await cli.file('mine.csv', 'of before\n');
    const argv = ['export', ...RANGE, '--out', out];
    const run = await cli.run(...argv);
    expect(run).toMatchObject({ status: 2, stdout: '' });
    expect(run.stderr).toBe(`error: ${out} is there already; --overwrite replaces it\n`);
    expect(await readFile(out, 'utf8')).toBe('of before\n');
    expect((await cli.run(...argv, '--overwrite')).status).toBe(0);
    expect((await readFile(out, 'utf8')).split('\n').length).toBeGreaterThan(3_000);
  });

  it('makes a file for its owner alone: it says what people did', async () => {
    const out = join(cli.dir, 'new.csv');
    expect((await cli.ask('export', ...RANGE, '--out', out)).status).toBe(0);
    expect((await stat(out)).mode & 0o777).toBe(0o600);
  });

  it('names a directory of archives that is not there, also where it would not be read', async () => {
    const run = await cli.run('export', ...RANGE, '--archive', join(cli.dir, 'nowhere'));
    expect(run).toMatchObject({ status: 2, stdout: '' });
    expect(run.stderr).toMatch(/^error: --archive: cannot read .*nowhere \(ENOENT\)/);
  });
});

describe('a document', () => {
  it('is whole and valid where an export fails in its midst', async () => {
    const { pool } = cli.database;
    let writes = 0;
    const stdout = new Writable({
      write(chunk, _encoding, done) {
        text += String(chunk);
        writes++;
        // The connection is lost after the first page.
        if (writes !== 2) return done();
        pool
          .query(
            `select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and query like 'fetch forward%'`,
          )
          .then(() => done(), done);
      },
    });
    let text = '';
    const { status } = await runInto(stdout, '--json', 'export', ...RANGE);
    const document = JSON.parse(text);
    expect(status).toBe(3);
    expect(document.error.code).toBe('unavailable');
    expect(document.usage.length).toBeGreaterThan(0);
  });
});

/** A terminal that remembers what it shows, and whether its cursor is there. */
function terminal(columns: number) {
  const state = { text: '', isCursorShown: true, widest: 0 };
  const stderr = Object.assign(
    new Writable({
      write(chunk, _encoding, done) {
        const text = String(chunk);
        state.text += text;
        if (text.includes('\u001b[?25l')) state.isCursorShown = false;
        if (text.includes('\u001b[?25h')) state.isCursorShown = true;
        if (!text.includes('\u001b')) state.widest = Math.max(state.widest, text.trimEnd().length);
        done();
      },
    }),
    { isTTY: true, columns },
  );
  return { stderr, state };
}

async function runOnTerminal(columns: number, onText: (text: string) => void, ...argv: string[]) {
  const { stderr, state } = terminal(columns);
  const chunks: string[] = [];
  const stdout = new Writable({
    write(chunk, _encoding, done) {
      chunks.push(String(chunk));
      done();
    },
  });
  const write = stderr.write.bind(stderr);
  stderr.write = ((...args: Parameters<typeof write>) => {
    onText(String(args[0]));
    return write(...args);
  }) as typeof stderr.write;
  const env = { DATABASE_URL: cli.database.url, MICRODOLLAR_DATA_DIR: cli.dir };
  const status = await runCli(argv, { stdout, stderr }, env);
  return { status, stdout: chunks.join(''), ...state };
}

/** As the terminal sends it; of this process's own handlers only. */
const interrupt = () => (process as EventEmitter).emit('SIGINT', 'SIGINT');

describe('Ctrl-C', () => {
  it.each([
    ['backfill', 'backfill` again goes on', 'microdollar_usage_daily'],
    ['verify', 'the rest was not compared', 'microdollar_usage_daily'],
  ])('ends %s with what it did, how to go on, and a cursor', async (command, goOn, rollup) => {
    await cli.database.pool.query(`update rollup_coverage set state = 'unbuilt'`);
    let isSent = false;
    const run = await runOnTerminal(
      120,
      (text) => {
        if (isSent || !text.includes(command)) return;
        isSent = true;
        interrupt();
      },
      command,
      '--workers',
      '1',
    );
    expect(isSent).toBe(true);
    expect(run.status).toBe(130);
    expect(run.stdout).toContain(rollup);
    expect(run.stdout).toContain('interrupted: ');
    expect(run.stdout).toContain(goOn);
    expect(run.isCursorShown).toBe(true);
  });

  it('gives one document with --json, and the next run goes on to the end', async () => {
    await cli.database.pool.query(`update rollup_coverage set state = 'unbuilt'`);
    let isSent = false;
    const onText = (text: string) => {
      if (isSent || !text.startsWith('{')) return;
      isSent = true;
      interrupt();
    };
    const argv = ['--json', 'backfill', '--progress', 'json', '--workers', '1'];
    const run = await runOnTerminal(80, onText, ...argv);
    expect(run.status).toBe(130);
    expect(documentOf({ ...run, stderr: '' })).toMatchObject({
      interrupted: 'SIGINT',
      rollups: expect.any(Array),
    });
    expect((await cli.ask('backfill')).status).toBe(0);
    expect((await cli.ask('verify')).document).toMatchObject({ drift_keys: 0 });
    await cli.ask('repair', '--balances');
    expect(await checkInvariants(cli.database.pool)).toEqual([]);
  });

  it('leaves work that cannot end by itself, and says so', async () => {
    const holder = await cli.database.pool.connect();
    try {
      await holder.query('begin');
      await holder.query('lock table kilocode_users in access exclusive mode');
      const running = cli.run('--json', 'user', 'create', 'dan');
      await expect.poll(() => process.listenerCount('SIGINT')).toBeGreaterThan(0);
      interrupt();
      const run = await running;
      expect(run.status).toBe(130);
      expect(documentOf(run).error).toMatchObject({
        message: 'interrupted (SIGINT): run it again',
        details: { signal: 'SIGINT' },
      });
    } finally {
      await holder.query('rollback');
      holder.release();
    }
  });

  it('leaves the file of an export, and the place of a dump, as they were, and says so', async () => {
    const out = await cli.file('kept.csv', 'of before\n');
    const [dump, other] = [join(cli.dir, 'dump'), join(cli.dir, 'other-dump')];
    const holder = await cli.database.pool.connect();
    const waiting = async () =>
      (
        await holder.query(
          `select from pg_locks as l join pg_database as d on d.oid = l.database
           where not l.granted and d.datname = current_database()`,
        )
      ).rowCount;
    const isLocking = async () =>
      (
        await holder.query(
          `select from pg_stat_activity where datname = current_database()
             and wait_event_type = 'Lock' and query ~ 'lock table'`,
        )
      ).rowCount;
    const interrupted = async (table: string, ...argv: string[]) => {
      await holder.query(`begin; lock table ${table} in access exclusive mode`);
      const running = cli.run(...argv);
      // Who: the command, and an autovacuum maybe, or what was interrupted before.
      await expect.poll(waiting).toBeGreaterThan(0);
      // Its directory is there, and it knows.
      if (argv.includes(other)) await expect.poll(isLocking).toBeGreaterThan(0);
      interrupt();
      const { status, stderr } = await running;
      await holder.query('rollback');
      expect(status).toBe(130);
      return stderr;
    };
    try {
      const exported = await interrupted(
        'microdollar_usage_metadata',
        'export',
        ...RANGE,
        '--out',
        out,
        '--overwrite',
      );
      expect(exported).toContain(`nothing is in ${out} that was not there before`);
      expect(await readFile(out, 'utf8')).toBe('of before\n');
      // In this process what is interrupted goes on: no dump before this one, which would lock tables too.
      const late = await interrupted('microdollar_usage', 'dump', other);
      expect(late).toContain(`${other} holds no whole dump; remove it`);
      const early = await interrupted('microdollar_migrations', 'dump', dump);
      expect(early).toContain('nothing was written; run it again');
      const names = await readdir(cli.dir);
      expect(names.filter((name) => name.includes('draft'))).toEqual([]);
    } finally {
      await holder.query('rollback');
      holder.release();
    }
  });
});

it('a lost connection does not lose the report of what ran', async () => {
  await cli.database.pool.query(`update rollup_coverage set state = 'unbuilt'`);
  // The rollups by dimension come last: what was built before them is told.
  await cli.database.pool.query('alter table microdollar_usage_quarter_hourly rename to hidden');
  try {
    const run = await cli.run('backfill');
    expect(run.status).toBe(3);
    expect(run.stdout).toMatch(/^microdollar_usage_daily +\d+ .* 3,000 /m);
    expect(run.stderr).toMatch(/^error: /m);
    const { document } = await cli.ask('backfill');
    expect(document.error.details.rollups[0]).toMatchObject({ rollup: 'microdollar_usage_daily' });
  } finally {
    await cli.database.pool.query('alter table hidden rename to microdollar_usage_quarter_hourly');
  }
  expect((await cli.ask('backfill')).status).toBe(0);
});

it.each([40, 80, 200])('progress fits a terminal of %d columns', async (columns) => {
  await cli.database.pool.query(`update rollup_coverage set state = 'unbuilt'`);
  const run = await runOnTerminal(columns, () => {}, 'backfill');
  expect(run.text).toMatch(/\d+%/);
  expect(run.widest).toBeLessThanOrEqual(columns);
  expect(run.isCursorShown).toBe(true);
});
