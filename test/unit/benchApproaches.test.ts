import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ApproachDefinition, checkApproach } from '../../bench/lib/approach.js';
import { BASELINES } from '../../bench/lib/baselines/index.js';
import { createLookups } from '../../bench/lib/baselines/statements.js';
import { runSlice } from '../../bench/lib/compare.js';
import { append, groupCommit, oneEvent } from '../../bench/lib/ours.js';
import { eventSource, type Population, populate } from '../../bench/lib/population.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

const APPROACHES = [...BASELINES, oneEvent, append, groupCommit];
const POPULATIONS: Record<string, Population> = {
  personal: { users: 3, draw: (random) => () => Math.floor(random() * 3) },
  organization: { users: 3, organization: true, draw: (random) => () => Math.floor(random() * 3) },
};

async function writeSome(definition: ApproachDefinition, population: Population) {
  const database = await createTestDatabase();
  await populate(database.pool, population);
  const nextEvent = eventSource(population, 1);
  const sample = Array.from({ length: 50 }, nextEvent);
  const lookups = await createLookups(database.pool, sample);
  const approach = await definition.open({ url: database.url, admin: database.pool, lookups });
  const open = {
    definition: { ...definition, callers: Math.min(definition.callers, 4) },
    approach,
    admin: database.pool,
    acknowledged: { events: 0, costMicrodollars: 0 },
  };
  await runSlice(open, nextEvent, 20);
  return { open, database };
}

const CASES = APPROACHES.flatMap((definition) =>
  Object.entries(POPULATIONS).map(([scope, population]) => ({ definition, scope, population })),
);

/** By approach and scope: what was written there is checked, and then damaged. */
describe.each(CASES)('$definition.name, $scope', ({ definition, scope, population }) => {
  let database: TestDatabase;
  let open: Awaited<ReturnType<typeof writeSome>>['open'];

  beforeAll(async () => {
    ({ open, database } = await writeSome(definition, population));
  });
  afterAll(async () => {
    await open.approach.close();
    await database.drop();
  });

  test('does the whole work: rows, metadata with lookups, exact totals', async () => {
    expect(await checkApproach(open)).toMatchObject({ ok: true });
    expect(open.acknowledged.events).toBeGreaterThan(0);
    const { rows } = await database.pool.query(
      `select count(*)::integer as metadata,
        count(*) filter (where http_user_agent_id is null or latency is null)::integer as bare
      from microdollar_usage_metadata`,
    );
    expect(rows[0]).toEqual({ metadata: open.acknowledged.events, bare: 0 });
  });

  if (scope !== 'personal') return;

  if (definition.kind !== 'limit') {
    test('its check sees a total that lost a microdollar', async () => {
      // A usage row nobody counted, on both sides of the tally: only the totals can tell.
      await database.pool.query(
        `update microdollar_usage set cost = cost + 1
        where id = (select id from microdollar_usage limit 1)`,
      );
      open.acknowledged.costMicrodollars += 1;
      expect(await checkApproach(open)).toMatchObject({ ok: false });
    });
  } else if (definition === BASELINES[0]) {
    test('the check sees an acknowledged event that is missing', async () => {
      await database.pool.query(
        'delete from microdollar_usage where id = (select id from microdollar_usage limit 1)',
      );
      expect(await checkApproach(open)).toMatchObject({ ok: false });
    });
  }
});
