import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { BudgetFolder } from '../../src/budgets/folder.js';
import { PayerLane } from '../../src/budgets/lane.js';
import type { ReservedAlikeRow } from '../../src/budgets/reserveAlike.sql.js';
import type { HoldResult } from '../../src/budgets/types.js';
import type { Query } from '../../src/db/query.js';

const GRANTED: ReservedAlikeRow = {
  available: '1',
  created_micros: '0',
};
/** Microtasks between the answer to one request and the arrival of the next. */
const MOMENTS = Array.from({ length: 16 }, (_, index) => index);

/** A lane whose database grants everything. @returns also how many requests each statement had */
function openLane() {
  const batches: number[] = [];
  const query: Query = async <Row>({ values }: Parameters<Query>[0]) => {
    batches.push(String(values[8]).split(',').length);
    await new Promise(setImmediate);
    return [GRANTED] as Row[];
  };
  const folder = null as unknown as BudgetFolder;
  const payer = { kilo_user_id: 'payer', organization_id: null };
  const lane = new PayerLane({ query, folder, slot: 0 }, payer, () => {});
  const hold = () =>
    new Promise<HoldResult>((resolve, reject) => {
      const request = {
        id: randomUUID(),
        kilo_user_id: 'payer',
        api_key_id: null,
        project_id: null,
        amount: 1,
        owner: null,
        expires_in_ms: 1_000,
      };
      lane.add({ request, resolve, reject });
    });
  return { hold, batches };
}

describe('the lane of a payer', () => {
  it.each(MOMENTS)(
    'answers who comes %d microtasks after another was answered',
    async (moments) => {
      const { hold } = openLane();
      await hold();
      for (let n = 0; n < moments; n++) await null;
      expect(await hold()).toMatchObject({ status: 'granted' });
    },
  );

  it('sends before the loop turns', async () => {
    const { hold, batches } = openLane();
    const answer = hold();
    await new Promise(setImmediate);
    expect(batches).toEqual([1]);
    expect(await answer).toMatchObject({ status: 'granted' });
  });

  it('sends together who comes together, and who was answered together and comes again', async () => {
    const { hold, batches } = openLane();
    const caller = async () => {
      for (let turn = 0; turn < 4; turn++) {
        await hold();
        // As much as is between an answer and the next call.
        for (let n = 0; n < 12; n++) await null;
      }
    };
    const late = async () => {
      // While the first statement is out.
      await new Promise(setImmediate);
      await caller();
    };
    await Promise.all([caller(), caller(), caller(), late()]);
    expect(batches.slice(0, 3)).toEqual([3, 4, 4]);
  });
});
