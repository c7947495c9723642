import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { documentOf, runCommand } from './cliHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';
import { ADMIN_KEY, serveLedger } from './serverHarness.js';

/** Tables of another program with 64 bits where the ledger's have 32, and organizations without a name. */
let fixture: LedgerFixture;
let user: string;
let organization: string;
let usageId: string;
const METADATA = {
  status_code: 200,
  reasoning_tokens: 7,
  max_tokens: 300,
  system_prompt_length: 9,
};
const DAY = '2026-01-02';

const run = (...argv: string[]) => runCommand({ DATABASE_URL: fixture.database.url }, ...argv);

beforeAll(async () => {
  fixture = await createLedgerFixture();
  await fixture.rows('alter table credit_transactions alter priority type bigint');
  const columns = Object.keys(METADATA).map((name) => `alter ${name} type bigint`);
  await fixture.rows(`alter table microdollar_usage_metadata ${columns.join(', ')}`);
  await fixture.rows('alter table organizations alter name drop not null');
  user = await fixture.addUser();
  organization = await fixture.addOrganization();
  await fixture.rows('update organizations set name = null');
  const ledger = await fixture.open();
  const event = { kilo_user_id: user, cost: 5, created_at: `${DAY}T01:02:03Z`, metadata: METADATA };
  usageId = (await ledger.recordUsage(event)).id;
});

afterAll(() => fixture.close());

it('priorities of credits are numbers', async () => {
  const added = await run('--json', 'credit', 'add', '--user', user, '5', '--priority', '3');
  expect(documentOf(added)).toMatchObject({ priority: 3 });
  expect(documentOf(await run('--json', 'credit', 'list')).credits).toMatchObject([
    { priority: 3 },
  ]);
  const own = await run('--json', 'credit', 'list', '--user', user);
  expect(documentOf(own).credits).toMatchObject([{ priority: 3 }]);
});

it('numbers of a request are numbers, and budgets name their organization by its id', async () => {
  expect(
    await run('budget', 'set', 'organization', organization, '3', '--window', 'month'),
  ).toMatchObject({ status: 0 });
  const service = await serveLedger(await fixture.open());
  try {
    const request = await service.query('usage.request', { id: usageId }, ADMIN_KEY);
    const { status_code, reasoning_tokens } = METADATA;
    expect(request.body.result.data).toMatchObject({ status_code, reasoning_tokens });
    const payers = await service.query('budgets.payers', {}, ADMIN_KEY);
    expect(payers.body.result.data.payers).toMatchObject([{ name: organization }]);
  } finally {
    await service.stop();
  }
});

it('archived files have them as numbers', async () => {
  const out = await mkdtemp(join(tmpdir(), 'microdollar-wider-'));
  try {
    for (const job of ['backfill', 'verify']) expect(await run(job)).toMatchObject({ status: 0 });
    const archived = await run('archive', '--until', DAY, '--out', out);
    expect(archived).toMatchObject({ status: 0, stderr: '' });
    const [file = ''] = (await readdir(out)).filter((name) => name.includes(DAY));
    const [, line = ''] = gunzipSync(await readFile(join(out, file)))
      .toString()
      .split('\n');
    expect(JSON.parse(line)).toMatchObject({ id: usageId, metadata: METADATA });
  } finally {
    await rm(out, { recursive: true });
  }
});
