import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { migrate } from '../../src/db/migrate.js';
import { DAILY_ROLLUP } from '../../src/schema/rollups.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { useCli } from './cliHarness.js';
import { createLedgerFixture } from './ledgerHarness.js';
import { startTestServer, type TestServer } from './serverHarness.js';

/** The first that a JSON number rounds: a string in every answer. */
const ODD = String(2n ** 53n + 1n);
const FAR_DAY = '2026-03-05';

/** Amounts and counts past 2^53, as other programs may leave them. */
const PLANTED = [
  `insert into kilocode_users (id, microdollars_used, opening_microdollars_used,
     total_microdollars_acquired)
   values ('far', ${ODD}, ${ODD}, ${ODD})`,
  `insert into microdollar_usage (id, kilo_user_id, cost, model, input_tokens, output_tokens,
     cache_write_tokens, cache_hit_tokens, created_at)
   values (gen_random_uuid(), 'far', ${ODD}, 'm', ${ODD}, ${ODD}, ${ODD}, ${ODD},
     '${FAR_DAY}T12:00:00Z')`,
  `insert into microdollar_usage_metadata (id, kilo_user_id, created_at, unpriced)
   select id, kilo_user_id, created_at, true from microdollar_usage`,
];

const COUNTS = {
  input_tokens: ODD,
  output_tokens: ODD,
  cache_write_tokens: ODD,
  cache_hit_tokens: ODD,
};

describe('past 2^53, an answer of the service', () => {
  let service: TestServer;

  beforeAll(async () => {
    service = await startTestServer();
    for (const text of PLANTED) await service.database.pool.query(text);
    await service.database.pool.query(
      `insert into rollup_coverage (rollup, period, drift_keys, drift_microdollars)
       values ('${DAILY_ROLLUP.name}', '${FAR_DAY}', 1, ${ODD})`,
    );
  });
  afterAll(() => service?.stop());

  const ask = async (procedure: string, input?: unknown) =>
    (await service.query(procedure, input)).body.result?.data;
  const far = { kiloUserId: 'far' };
  const balance = {
    microdollars_used: ODD,
    total_microdollars_acquired: ODD,
    remaining_microdollars: 0,
  };

  it('is exact on balances and requests, alone and in one document', async () => {
    expect(await ask('balance.current', far)).toMatchObject(balance);
    expect(await ask('usage.recent', far)).toMatchObject([{ cost: ODD, ...COUNTS }]);
    expect(await ask('profile.account', far)).toMatchObject({
      balance,
      recent: [{ cost: ODD, ...COUNTS }],
    });
  });

  it('is exact by model, and for whoever waits for a price', async () => {
    expect(await ask('usage.byModel', { ...far, date: FAR_DAY })).toEqual([
      { model: 'm', cost: ODD, requests: 1, ...COUNTS },
    ]);
    expect(await ask('operations.unpriced')).toMatchObject({
      rows: [{ inputTokens: ODD, outputTokens: ODD }],
    });
  });

  it('is exact of drift', async () => {
    expect(await ask('operations.drift')).toMatchObject({
      days: [{ day: FAR_DAY, driftMicrodollars: ODD }],
    });
  });

  it('is exact of what was just recorded', async () => {
    const events = [{ kilo_user_id: 'far', cost: 2 }];
    const { body } = await service.post('/api/usage', { events });
    expect(body.results[0].new_microdollars_used).toBe(String(2n ** 53n + 3n));
  });
});

describe('past 2^53, a command', () => {
  const cli = useCli();

  beforeAll(async () => {
    for (const text of PLANTED) await cli.database.pool.query(text);
  });

  it('reports drift exactly, in `verify` and in `status`', async () => {
    const verified = await cli.ask('verify');
    expect(verified.document.rollups[0]).toMatchObject({
      drift_microdollars: ODD,
      drifts: [{ true_microdollars: ODD, drift_microdollars: `-${ODD}` }],
    });
    const status = await cli.ask('status');
    const [daily] = status.document.rollups;
    expect(daily).toMatchObject({ drift_keys: 1, drift_microdollars: ODD });
    expect((await cli.run('verify')).stdout).toContain('9007199254.740993 USD');
    // Nobody reads what is not built: the line for people names it, and is not alarmed.
    expect((await cli.run('status')).stdout).toContain('1 key of periods that are not built');
  });

  it('exports exactly, as CSV and JSON', async () => {
    const range = ['--from', FAR_DAY, '--until', FAR_DAY];
    const csv = await cli.run('export', ...range);
    expect(csv.stdout.trim().split('\n').at(-1)).toContain(ODD);
    const { document } = await cli.ask('export', ...range);
    expect(document).toMatchObject({
      usage: [{ cost: ODD, ...COUNTS }],
      total_cost_microdollars: ODD,
    });
  });

  it('says that it recorded what it recorded, whatever the sum', async () => {
    const line = (index: number) =>
      JSON.stringify({
        kilo_user_id: 'far',
        cost: index === 0 ? 10 ** 12 - 1 : 10 ** 12,
        created_at: '2026-05-01T00:00:00Z',
      });
    const path = await cli.file(
      'far.jsonl',
      Array.from({ length: 9_100 }, (_, i) => line(i)).join('\n'),
    );
    const cost = String(9_100n * 10n ** 12n - 1n);
    const first = await cli.ask('import', path);
    expect(first).toMatchObject({ status: 0, document: { recorded: 9_100, rejected: 0 } });
    expect(first.document.recorded_cost_microdollars).toBe(cost);
    const again = await cli.run('import', path);
    expect(again).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('9099999999.999999'),
    });
  });
});

/** Rows of another program where no event may lie; each is counted at once. */
const INSTANTS = ['infinity', '-infinity', '294276-12-31T23:59:59Z', '0044-03-15T12:00:00Z BC'];

describe('rows at impossible instants', () => {
  it('are settled, swept, answered for and shown like others', async () => {
    const fixture = await createLedgerFixture();
    try {
      const { url } = fixture.database;
      await migrate(url, { countForeignRows: true });
      const ids = INSTANTS.map(() => randomUUID());
      await fixture.addUser('ada');
      await fixture.addUser('innocent');
      for (const [index, at] of INSTANTS.entries()) {
        await fixture.rows(
          `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
           values ($1, 'ada', 5, $2)`,
          [ids[index], at],
        );
      }
      const ledger = await fixture.open();
      expect((await ledger.getPendingStatus()).depth).toBe(INSTANTS.length);
      const results = await ledger.recordUsageBatch([
        ...ids.map((id) => ({ id, kilo_user_id: 'ada', cost: 5 })),
        { kilo_user_id: 'innocent', cost: 3 },
      ]);
      expect(results.map(({ status }) => status)).toEqual([
        ...ids.map(() => 'duplicate'),
        'recorded',
      ]);
      expect(results.slice(0, 4)).toMatchObject([
        { created_at: 'infinity' },
        { created_at: '-infinity' },
        { created_at: expect.stringMatching(/^294276-12-31/) },
        { created_at: expect.stringMatching(/^0044-03-15.*BC$/) },
      ]);
      expect(await ledger.fold()).toMatchObject({ remaining: 0 });
      expect(await ledger.getUserBalance('ada')).toBe(20);
      expect(await checkInvariants(fixture.database.pool)).toEqual([]);
    } finally {
      await fixture.close();
    }
  });

  it('are told to whoever asks for them, as the database has them', async () => {
    const service = await startTestServer();
    try {
      const { id } = await service.newUser();
      await service.database.pool.query(
        `insert into microdollar_usage (id, kilo_user_id, cost, created_at)
         select gen_random_uuid(), $1, 1, at from unnest($2::timestamptz[]) as at`,
        [id, INSTANTS],
      );
      const { body } = await service.query('usage.recent', { kiloUserId: id });
      const instants = body.result.data.map((row: { created_at: string }) => row.created_at);
      expect(instants).toMatchObject([
        'infinity',
        expect.stringMatching(/^294276/),
        expect.stringMatching(/BC$/),
        '-infinity',
      ]);
      const paged: string[] = [];
      for (let cursor: string | null | undefined; cursor !== null; ) {
        const answer = await service.query('usage.requests', {
          kilo_user_id: id,
          limit: 1,
          cursor,
        });
        expect(answer.status).toBe(200);
        const { requests, next } = answer.body.result.data;
        paged.push(...requests.map((row: { created_at: string }) => row.created_at));
        cursor = next;
      }
      expect(paged).toEqual(instants);
      // Any instant that is taken means the same to the database.
      const before = await service.query('usage.requests', {
        kilo_user_id: id,
        until: '2026-03-01T00:00:00,5Z',
      });
      expect(before.body.result?.data.requests).toHaveLength(2);
    } finally {
      await service.stop();
    }
  });
});
