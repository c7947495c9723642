import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TestDatabase } from '../support/database.js';
import { describeDatabase } from '../support/describeDatabase.js';
import { createSeedDatabase } from './adoptHarness.js';
import { documentOf, runCommand } from './cliHarness.js';

let database: TestDatabase;
const run = (...argv: string[]) => runCommand({ DATABASE_URL: database.url }, 'migrate', ...argv);

beforeEach(async () => {
  database = await createSeedDatabase();
});

afterEach(() => database.drop());

describe('microdollar migrate on a database with usage of its own', () => {
  it('--dry-run tells each step, its lock and its length, and changes nothing', async () => {
    const before = await describeDatabase(database.url);
    const text = await run('--dry-run');
    expect(text).toMatchObject({ status: 0, stderr: '' });
    expect(text.stdout).toContain('it would be adopted online');
    expect(text.stdout).toMatch(
      /^quick +access exclusive +alter table +microdollar_usage_daily: /m,
    );
    expect(text.stdout).toMatch(
      /^long +share update exclusive +create index +[\d,]+ +\d+ kB +1 s +\d+ kB +idx_/m,
    );
    expect(text.stdout).toMatch(/^long steps: about \d+ s in all, and at most \d+ kB of disk/m);
    expect(text.stdout).toContain('warning: foreign keys of microdollar_usage (usage_user)');
    const { steps, adoption } = documentOf(await run('--dry-run', '--json'));
    expect(adoption).toBe(true);
    expect(steps.length).toBeGreaterThan(40);
    const rewriting = steps.filter(
      (step: { lock: string; duration: string }) =>
        step.duration === 'long' && !['ACCESS SHARE', 'SHARE UPDATE EXCLUSIVE'].includes(step.lock),
    );
    expect(rewriting).toEqual([]);
    for (const { duration, estimate } of steps) expect(estimate !== null).toBe(duration === 'long');
    expect(steps.at(-1)).toMatchObject({ kind: 'finish', lock: 'none', duration: 'quick' });
    expect(await describeDatabase(database.url)).toBe(before);
  });

  it('--dry-run --sql shows every statement, and --sql alone is refused', async () => {
    const { stdout } = await run('--dry-run', '--sql');
    const { steps } = documentOf(await run('--dry-run', '--json'));
    const statements = steps.flatMap((step: { statements: string[] }) => step.statements);
    for (const statement of statements) expect(stdout).toContain(statement.trim().slice(0, 60));
    expect(stdout).toMatch(/^-- \d+\. create index: idx_.* \(outside of a transaction\)$/m);
    expect((await run('--sql')).status).toBe(2);
  });

  it('until then, commands on what is there say that it can be adopted', async () => {
    const status = await runCommand({ DATABASE_URL: database.url }, 'status');
    expect(status.status).toBe(3);
    expect(status.stderr).toMatch(
      /^error: this database has tables of its own, and can be adopted/,
    );
    const user = await runCommand({ DATABASE_URL: database.url }, 'user', 'list');
    expect(user.stderr).toContain('migrate --dry-run');
    expect(user.stderr).not.toContain('check DATABASE_URL');
  });

  it('--dry-run exits with 1 where something is in the way', async () => {
    await database.pool.query('alter table microdollar_usage alter column cost type integer');
    const text = await run('--dry-run');
    expect(text.status).toBe(1);
    expect(text.stdout).toContain('in the way: microdollar_usage.cost is integer');
    const refused = await run('--json');
    expect(refused.status).toBe(3);
    expect(documentOf(refused).error.details.problems).toHaveLength(1);
  });

  it('adopts, says what is next, and drops foreign keys when asked later', async () => {
    const adopted = await run();
    expect(adopted.status).toBe(0);
    expect(adopted.stdout).toContain('adopted: reads stay on raw usage');
    expect(adopted.stderr).toMatch(/create index: idx_microdollar_usage_daily_usage_date/);
    expect(documentOf(await run('--json'))).toMatchObject({ applied: [], adopted: false });
    expect(documentOf(await run('--json')).warnings).toHaveLength(2);
    const dropped = documentOf(await run('--json', '--drop-foreign-keys'));
    expect(dropped).toMatchObject({ applied: [], adopted: false, warnings: [] });
    expect((await run('--dry-run')).stdout).toMatch(/^nothing to do\n/);
  });

  it('refuses a lock timeout that is none', async () => {
    expect(await run('--lock-timeout', 'soon')).toMatchObject({ status: 2 });
  });
});
