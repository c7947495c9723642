import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { archiveUsage } from '../../../src/rollup/archive/archive.js';
import { runBackfill } from '../../../src/rollup/backfill.js';
import { verifyRollup } from '../../../src/rollup/verify.js';
import { DAILY_ROLLUP } from '../../../src/schema/rollups.js';
import { compareReports } from './compare.js';
import { RANGE } from './operatorCommands.js';
import type { Program } from './program.js';

/** Every instant that a program gives lies below; what is dated by the ledger lies above. */
const SEALED_UNTIL = RANGE.until;

/**
 * What operators do to a ledger when a program has ended: build the history anew from raw rows,
 * prove it, archive it. No report may change; what is archived takes no more events. For a
 * database of the program's own: the horizon is everybody's.
 */
export async function rebuildProveAndSeal(program: Program): Promise<void> {
  const { world, users, model } = program;
  const { pool, url } = world.database;
  const range = { url, rollup: DAILY_ROLLUP, from: RANGE.from, until: RANGE.until };
  await pool.query(
    'delete from microdollar_usage_daily where kilo_user_id = any($1) and usage_date <= $2',
    [users, SEALED_UNTIL],
  );
  await runBackfill(range);
  await compareReports(program);

  const directory = await mkdtemp(join(tmpdir(), 'microdollar-model-'));
  try {
    expect((await verifyRollup(range)).drifts).toEqual([]);
    const ledger = world.writers[0];
    await archiveUsage({ url, until: SEALED_UNTIL, directory });
    await compareReports(program);
    expect((await verifyRollup(range)).drifts).toEqual([]);
    const { rows } = await pool.query<{ left: number }>(
      'select count(*)::integer as left from microdollar_usage where created_at < $1::date + 1',
      [SEALED_UNTIL],
    );
    expect(rows).toEqual([{ left: 0 }]);
    for (const event of model.events.filter(({ givenAt }) => givenAt !== null)) {
      for (const id of [event.id, program.newId()]) {
        await expect(ledger?.recordUsage(program.toEvent({ ...event, id }))).rejects.toMatchObject({
          code: 'archived_period',
        });
      }
    }
    await compareReports(program);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
