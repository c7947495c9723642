import { expect, it, onTestFinished, vi } from 'vitest';
import { validateEvent } from '../../src/record/event.js';
import { HostPool } from '../../src/record/onHostPool.js';

/** A pool on which what was prepared by name fails for ever. */
function stalePool(error: object) {
  const sent: (string | undefined)[] = [];
  const query = async ({ name, text }: { name?: string; text: string }) => {
    if (/^show/.test(text)) return { rows: [{ default_transaction_isolation: 'read committed' }] };
    sent.push(name);
    if (name !== undefined) throw Object.assign(new Error('of the name'), error);
    return { rows: [{ created_micros: '0', balance: '7', is_whole: true, depth: '0' }] };
  };
  return { sent, query };
}

const event = validateEvent({ kilo_user_id: 'ada', cost: 7 }, { nulBytesRemoved: 0 });

it.each([
  ['a pooler swapped the connection', { code: '26000' }],
  ['somebody altered a table', { code: '0A000', routine: 'RevalidateCachedQuery' }],
])('writes without names where %s', async (_name, error) => {
  const pool = stalePool(error);
  const host = new HostPool(pool);
  expect(await host.write(event)).toMatchObject({ new_microdollars_used: 7 });
  await host.write(event);
  expect(pool.sent).toEqual([expect.any(String), undefined, undefined]);
});

it('writes by new names a minute after somebody altered a table, and again', async () => {
  let nowMs = 1_000;
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  onTestFinished(() => void vi.restoreAllMocks());
  const pool = stalePool({ code: '0A000', routine: 'RevalidateCachedQuery' });
  const host = new HostPool(pool);
  for (let minute = 0; minute < 2; minute++) {
    await host.write(event);
    await host.write(event);
    nowMs += 60_000;
  }
  const [first, , , second] = pool.sent;
  expect(second).toBe(`${first}_1`);
  expect(pool.sent).toEqual([first, undefined, undefined, second, undefined, undefined]);
});

it('writes again each of those that were under way when their names went', async () => {
  const host = new HostPool(stalePool({ code: '26000' }));
  const results = await Promise.all([host.write(event), host.write(event)]);
  expect(results).toMatchObject(Array(2).fill({ new_microdollars_used: 7 }));
});
