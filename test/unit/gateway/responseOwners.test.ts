import { expect, it } from 'vitest';
import type { ResponseFollowing } from '../../../src/gateway/durable/types.js';
import { ResponseOwners } from '../../../src/gateway/proxy/background/owners.js';

const USER = { kiloUserId: 'ada' };

function open() {
  const asked: (readonly string[])[] = [];
  const findItemUsers: ResponseFollowing['findItemUsers'] = async (ids) => {
    asked.push(ids);
    return new Map();
  };
  return { asked, owners: new ResponseOwners({ findItemUsers } as ResponseFollowing) };
}

const named = (ids: readonly string[]) => ids.map((id) => ({ id, isReference: false }));

it('asks for each name of an item once, and for none that cannot be kept', async () => {
  const { asked, owners } = open();
  await owners.requireOwnItems(named(['msg_1', 'msg_1', 'x'.repeat(513), 'x\0', 'msg_2']), USER);
  expect(asked).toEqual([['msg_1', 'msg_2']]);
});

it('refuses a request that names more items than one statement asks for', async () => {
  const { asked, owners } = open();
  const ids = Array.from({ length: 10_001 }, (_, index) => `msg_${index}`);
  await expect(owners.requireOwnItems(named(ids), USER)).rejects.toMatchObject({
    reason: 'invalid_request',
    param: 'input',
  });
  expect(asked).toEqual([]);
  await owners.requireOwnItems(named(ids.slice(1)), USER);
  expect(asked).toHaveLength(1);
});
