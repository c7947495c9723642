import { expect, it } from 'vitest';
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
