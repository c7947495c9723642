import { describe, expect, it } from 'vitest';
import { useCli } from './cliHarness.js';

const cli = useCli();
const DAYS = 12;
/** The days of the history, not all of the three months that reads use. */
const RECENT = [
  '--from',
  new Date(Date.now() - (DAYS + 1) * 86_400_000).toISOString().slice(0, 10),
];

describe('an adopted history, from import to the switch', () => {
  it('import --raw writes usage alone, and reads turn to raw', async () => {
    expect((await cli.ask('read-mode')).document.read_mode).toBe('rollup');
    for (const user of ['ada', 'bob']) await cli.ask('user', 'create', user);
    const lines = Array.from({ length: 10 * DAYS }, (_, index) =>
      JSON.stringify({
        kilo_user_id: index % 2 ? 'ada' : 'bob',
        cost: 1000 + index,
        created_at: new Date(Date.now() - (index % DAYS) * 86_400_000 - 60_000).toISOString(),
      }),
    );
    const file = await cli.file('history.jsonl', lines.join('\n'));
    expect(await cli.ask('import', '--raw', file)).toMatchObject({
      status: 0,
      document: { recorded: 10 * DAYS },
    });
    expect((await cli.ask('read-mode')).document).toMatchObject({
      read_mode: 'raw',
      reason: expect.stringContaining('import --raw'),
      rollup_allowed: false,
    });
  });

  it('verify finds it all missing, and says what to do; exit 1', async () => {
    const verified = await cli.ask('verify');
    expect(verified.status).toBe(1);
    const [daily] = verified.document.rollups;
    expect(daily).toMatchObject({ raw_rows: 10 * DAYS, drift_keys: DAYS });
    expect(daily.drifts[0]).toMatchObject({ kind: 'missing', likely_cause: expect.any(String) });
    expect((await cli.run('verify', ...RECENT)).stdout).toContain('`repair` fixes');
    // Nobody reads what is not built: it is not wrong.
    const status = (await cli.run('status')).stdout;
    expect(status).toMatch(
      new RegExp(`^microdollar_usage_daily +(\\d+ verified, )?.*\\b${DAYS} not built`, 'm'),
    );
    expect(status).toMatch(/no drift known/);
    expect(status).toMatch(
      new RegExp(`^ +${DAYS} keys of periods that are not built; \`backfill\` builds them$`, 'm'),
    );
    const one = await cli.ask('verify', '--user', 'ada');
    expect(one.document.rollups[0].drift_keys).toBe(DAYS / 2);
  });

  it.each([['verify'], ['repair'], ['repair', '--dry-run'], ['backfill']])(
    '%s tells nothing of days that are refused, least of all that there is no drift',
    async (...argv) => {
      const range = ['--from', '2026-01-02', '--until', '2026-01-01'];
      expect(await cli.run(...argv, ...range)).toMatchObject({
        status: 2,
        stdout: '',
        stderr: expect.stringContaining('--from lies after --until; swap them'),
      });
    },
  );

  it('refuses the switch with the days', async () => {
    const refused = await cli.ask('read-mode', 'rollup');
    expect(refused).toMatchObject({
      status: 1,
      document: { error: { code: 'unproven_window' } },
    });
    expect(refused.document.error.details.unproven_days).toHaveLength(
      new Set(refused.document.error.details.unproven_days).size,
    );
  });

  it('backfill plans, builds, and has nothing to do a second time', async () => {
    const plan = await cli.ask('backfill', '--dry-run');
    expect(plan.document).toMatchObject({ dry_run: true });
    const [daily, , ...byDimension] = plan.document.rollups;
    expect(daily.unbuilt_periods).toBe(DAYS);
    expect(byDimension.map((each: { rollup: string }) => each.rollup)).toEqual([
      'microdollar_usage_quarter_hourly',
      'microdollar_usage_daily_by_dimension',
      'microdollar_usage_daily_by_user',
    ]);
    for (const { unbuilt_periods, periods_to_check, from, until } of byDimension) {
      // Days without usage are of the window that reads use, and looked at as well.
      expect(unbuilt_periods + periods_to_check).toBeGreaterThanOrEqual(DAYS);
      expect(unbuilt_periods).toBeGreaterThanOrEqual(DAYS - 1);
      expect([from < until, until]).toEqual([true, daily.until]);
    }
    const built = await cli.ask('backfill');
    expect(built).toMatchObject({
      status: 0,
      document: {
        rollups: [{ raw_rows: 10 * DAYS }, {}, ...Array(3).fill({ raw_rows: 10 * DAYS })],
      },
    });
    const planned = await cli.ask('backfill', '--dry-run');
    for (const { rollup, unbuilt_periods } of planned.document.rollups) {
      expect([rollup, unbuilt_periods]).toEqual([rollup, 0]);
    }
    const again = await cli.ask('backfill');
    expect(again.document.rollups[0]).toMatchObject({ periods: 0 });
    for (const rollup of again.document.rollups.slice(2)) {
      expect(rollup).toMatchObject({ periods: 0, created: 0, left: 0 });
    }
  });

  it('shows progress as lines of JSON on stderr, one document on stdout', async () => {
    await cli.database.pool.query(`update rollup_coverage set state = 'unbuilt'`);
    const run = await cli.run('--json', 'backfill', '--progress', 'json');
    const lines = run.stderr.trim().split('\n');
    expect(lines.length).toBeGreaterThan(10);
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({
      rollup: expect.any(String),
      rows_per_second: expect.any(Number),
      is_paused: false,
    });
    expect(JSON.parse(run.stdout).rollups).toHaveLength(5);
  });

  it('proof, shadow and switch', async () => {
    expect((await cli.ask('verify')).status).toBe(0);
    const shadow = await cli.ask('read-mode', 'shadow', '--compare', '100');
    expect(shadow).toMatchObject({
      status: 0,
      document: { read_mode: 'shadow', shadow: { comparisons: 100, mismatches: 0 } },
    });
    const refused = await cli.run('read-mode', 'rollup', '--compare', '3');
    expect(refused.status).toBe(2);
    expect(refused.stderr).toContain('--compare goes with shadow');
    expect(await cli.ask('read-mode', 'rollup')).toMatchObject({
      status: 0,
      document: { read_mode: 'rollup', effective_mode: 'rollup', obstacles: [] },
    });
  });

  it('status shows coverage, a pause that nobody resumed, and drift', async () => {
    await cli.ask('backfill', '--pause');
    await cli.database.pool.query(
      `update microdollar_usage_daily set total_cost_microdollars = total_cost_microdollars + 3
       where kilo_user_id = 'ada'`,
    );
    await cli.ask('verify', ...RECENT);
    const status = await cli.ask('status');
    expect(status.document).toMatchObject({ read_mode: 'raw' });
    expect(status.document.rollups[0]).toMatchObject({
      drift_keys: DAYS / 2,
      drift_microdollars: 3 * (DAYS / 2),
      backfill: { is_paused: true, paused_at: expect.any(String) },
    });
    const text = (await cli.run('status')).stdout;
    expect(text).toContain('backfill paused since');
    expect(text).toContain(`${DAYS / 2} wrong keys, 0.0000${3 * (DAYS / 2)} USD`);
    await cli.ask('backfill', '--resume');
  });

  it('status tells of the rollups by dimension as well, and what is wrong in one of them', async () => {
    const countOnTop = (requests: number) =>
      cli.database.pool.query(
        `update microdollar_usage_daily_by_user set requests = requests + $1
         where kilo_user_id = 'bob'`,
        [requests],
      );
    await countOnTop(1);
    await cli.ask('verify', ...RECENT);
    const { rollups } = (await cli.ask('status')).document;
    expect(rollups.map((each: { rollup: string }) => each.rollup)).toEqual([
      'microdollar_usage_daily',
      'exa_monthly_usage',
      'microdollar_usage_quarter_hourly',
      'microdollar_usage_daily_by_dimension',
      'microdollar_usage_daily_by_user',
    ]);
    expect(rollups[3]).toMatchObject({ drift_keys: 0, last_verified_at: expect.any(String) });
    expect(rollups[4]).toMatchObject({ drift_keys: DAYS / 2, drift_microdollars: 0 });
    expect((await cli.run('status')).stdout).toMatch(
      /^microdollar_usage_daily_by_user .*\n +6 wrong keys, 0\.000000 USD; `repair` fixes them/m,
    );
    expect((await cli.run('verify', ...RECENT, '--user', 'bob')).stdout).toMatch(
      /^wrong in microdollar_usage_daily_by_user: bob, .*, drift 0\.000000 USD, \+1 request; /m,
    );
    await countOnTop(-1);
    await cli.ask('verify', ...RECENT);
  });

  it('repair fixes exactly that, is recorded, and finds nothing the next time', async () => {
    const repaired = await cli.ask('repair', ...RECENT);
    expect(repaired).toMatchObject({
      status: 0,
      document: { repaired: DAYS / 2, left_drift_keys: 0, effective_read_mode: 'raw' },
    });
    expect(repaired.document.way_back[0]).toMatch(
      /^reads come from raw usage \(fell back: verify found 6 wrong/,
    );
    expect(repaired.document.way_back.at(-1)).toBe('then `read-mode rollup`');
    const again = await cli.run('repair', ...RECENT);
    expect(again.stdout).toContain('repaired 0\nreads come from raw usage');
    expect((await cli.ask('verify', ...RECENT)).status).toBe(0);
    const { rows } = await cli.database.pool.query('select cause from rollup_repairs');
    expect(rows).toHaveLength(DAYS / 2);
  });

  it('and what it tells leads back to the rollup', async () => {
    for (const sentence of (await cli.ask('repair')).document.way_back) {
      for (const [, command = ''] of sentence.matchAll(/`(read-mode[^`]*)`/g)) {
        await cli.ask(...command.split(' '));
      }
    }
    expect((await cli.ask('read-mode')).document.effective_mode).toBe('rollup');
    expect((await cli.ask('repair')).document.way_back).toEqual([]);
  });

  it('balances are proven apart: raw rows moved none', async () => {
    const found = await cli.ask('verify', '--balances');
    expect(found).toMatchObject({ status: 1, document: { drifted: 2, repaired: 0 } });
    const fixed = await cli.ask('repair', '--balances');
    expect(fixed).toMatchObject({ status: 0, document: { drifted: 2, repaired: 2 } });
    expect((await cli.ask('verify', '--balances')).status).toBe(0);
  });
});

describe('bad input', () => {
  it.each([
    [['backfill', '--from', 'yesterday']],
    [['backfill', '--workers', '0']],
    [['backfill', '--pause', '--resume']],
    [['verify', '--from', '2026-11-02', '--until', '2026-11-01']],
    [['verify', '--until', '2999-01-01']],
    [['verify', '--continue']],
    [['repair', '--continue']],
    [['verify', '--balances', '--from', '2026-01-01']],
    [['read-mode', 'fast']],
    [['read-mode', 'shadow', '--compare', '0']],
  ])('%j is a usage error', async (argv) => {
    expect(await cli.ask(...argv)).toMatchObject({
      status: 2,
      document: { error: { code: 'invalid_request' } },
    });
  });
});
