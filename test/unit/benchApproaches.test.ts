import { afterEach, describe, expect, test } from 'vitest';
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

let database: TestDatabase | null = null;
afterEach(async () => {
  await database?.drop();
  database = null;
});

async function writeSome(definition: ApproachDefinition, population: Population) {
  database = await createTestDatabase();
  await populate(database.pool, population);
  const nextEvent = eventSource(population, 1);
  const sample = Array.from({ length: 200 }, nextEvent);
  const lookups = await createLookups(database.pool, sample);
  const approach = await definition.open({ url: database.url, admin: database.pool, lookups });
  const open = {
    definition: { ...definition, callers: Math.min(definition.callers, 4) },
    approach,
    admin: database.pool,
    acknowledged: { events: 0, costMicrodollars: 0 },
  };
  await runSlice(open, nextEvent, 50);
  return { open, pool: database.pool };
}

const CASES = APPROACHES.flatMap((definition) =>
  Object.entries(POPULATIONS).map(([scope, population]) => ({ definition, scope, population })),
);

describe.each(CASES)('$definition.name, $scope', ({ definition, population }) => {
  test('does the whole work: rows, metadata with lookups, exact totals', async () => {
    const { open, pool } = await writeSome(definition, population);
    try {
      expect(await checkApproach(open)).toMatchObject({ ok: true });
      expect(open.acknowledged.events).toBeGreaterThan(0);
      const { rows } = await pool.query(
        `select count(*)::integer as metadata,
          count(*) filter (where http_user_agent_id is null or latency is null)::integer as bare
        from microdollar_usage_metadata`,
      );
      expect(rows[0]).toEqual({ metadata: open.acknowledged.events, bare: 0 });
    } finally {
      await open.approach.close();
    }
  });
});

describe.each(APPROACHES.filter(({ kind }) => kind !== 'limit'))('$name', (definition) => {
  test('its check sees a total that lost a microdollar', async () => {
    const { open, pool } = await writeSome(definition, POPULATIONS.personal as Population);
    try {
      // A usage row nobody counted, on both sides of the tally: only the totals can tell.
      await pool.query(
        `update microdollar_usage set cost = cost + 1
        where id = (select id from microdollar_usage limit 1)`,
      );
      open.acknowledged.costMicrodollars += 1;
      expect(await checkApproach(open)).toMatchObject({ ok: false });
    } finally {
      await open.approach.close();
    }
  });
});

test('the check sees an acknowledged event that is missing', async () => {
  const [rawInsert] = BASELINES;
  const { open, pool } = await writeSome(
    rawInsert as ApproachDefinition,
    POPULATIONS.personal as Population,
  );
  try {
    await pool.query(
      'delete from microdollar_usage where id = (select id from microdollar_usage limit 1)',
    );
    expect(await checkApproach(open)).toMatchObject({ ok: false });
  } finally {
    await open.approach.close();
  }
});
