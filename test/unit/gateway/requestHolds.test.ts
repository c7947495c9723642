import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { HoldResult } from '../../../src/budgets/types.js';
import { LedgerError } from '../../../src/errors.js';
import { DatabaseGate } from '../../../src/gateway/durable/databaseGate.js';
import { IntentStore } from '../../../src/gateway/durable/intentStore.js';
import { LedgerHolds, type LedgerHoldsOptions } from '../../../src/gateway/durable/requestHolds.js';

const HOLD = {
  id: '00000000-0000-4000-8000-000000000001',
  kilo_user_id: 'ada',
  organization_id: null,
  api_key_id: null,
  project_id: null,
  amount: 5,
};
const INTENT = {
  kilo_user_id: 'ada',
  organization_id: null,
  api_key_id: null,
  api_kind: 'openai_chat',
  requested_model: null,
  created_at: '2026-11-01T00:00:00.000Z',
  input_tokens_estimate: 1,
  max_tokens: null,
  streamed: false,
};
const GRANTED: HoldResult = {
  id: HOLD.id,
  status: 'granted',
  amount: 5,
  available_microdollars: 1,
  created_at: '2026-11-01T00:00:00.000000Z',
};
const LOST = new LedgerError('unavailable', 'Connection terminated');
const HELD = '00000000-0000-4000-8000-000000000002';
const held = new LedgerError('unavailable', 'in use', { details: { id: HELD } });
const NOT_THERE = new LedgerError('not_found', 'hold_id names no open hold');

/** What a ledger was asked, where `hold` ends as the test says, and nothing is there to release. */
function openHolds(hold: LedgerHoldsOptions['ledger']['hold'], shards: readonly never[] = []) {
  const open = new Set<string>();
  const isOpen = (id: string) => open.has(id);
  const asked: string[] = [];
  const gate = new DatabaseGate({ probe: async () => {}, timeoutMs: 1_000, onChange: () => {} });
  const holds = new LedgerHolds({
    owner: '00000000-0000-4000-8000-00000000000f',
    ledger: {
      hold,
      extend: () => Promise.reject(NOT_THERE),
      release: async (id) => {
        asked.push('release');
        throw id === HELD ? held : NOT_THERE;
      },
      parts: shards,
    },
    gate,
    timeoutMs: 1_000,
    store: new IntentStore(async ({ name }) => {
      asked.push(name ?? '');
      return [];
    }, isOpen),
    log: { info() {}, warn() {}, error() {} },
    isOpen,
  });
  return { asked, gate, holds, open };
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it('looks again for what a lost connection may have held: its commit may come later', async () => {
  const { asked, holds } = openHolds(() => Promise.reject(LOST));
  await expect(holds.reserve(HOLD)).rejects.toBe(LOST);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(asked).toEqual(['release']);
  await vi.advanceTimersByTimeAsync(60_000);
  // With its intent, and that is all.
  expect(asked).toEqual(['release', 'release', 'gateway_delete_intents']);
});

it('takes back what is granted after it was given up, of no cost too', async () => {
  let grant = (_: HoldResult) => {};
  const granted = new Promise<HoldResult>((resolve) => {
    grant = resolve;
  });
  const { asked, holds } = openHolds(() => granted);
  const given = expect(holds.reserve(HOLD)).rejects.toMatchObject({ code: 'unavailable' });
  await vi.advanceTimersByTimeAsync(1_500);
  await given;
  asked.length = 0;
  grant({ ...GRANTED, amount: 0 });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toEqual(['release', 'gateway_delete_intents']);
});

it('leaves the intent of a request that goes on without its hold', async () => {
  const two = [{}, {}] as never[];
  const { asked, holds, open } = openHolds(() => Promise.reject(LOST), two);
  const intent = { ...INTENT, id: HOLD.id };
  await expect(holds.reserve({ ...HOLD, intent })).rejects.toBe(LOST);
  open.add(HOLD.id);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked).not.toContain('gateway_delete_intents');
});

it('gives back the others where one is in use, which is tried again', async () => {
  const { asked, holds } = openHolds(() => Promise.reject(LOST));
  holds.release(HELD);
  holds.release(HOLD.id);
  await vi.advanceTimersByTimeAsync(10);
  expect(asked).toEqual(['release', 'release']);
  await vi.advanceTimersByTimeAsync(600);
  expect(asked).toEqual(['release', 'release', 'release']);
});

it('asks for nothing that it has not sent', async () => {
  const { asked, gate, holds } = openHolds(() => Promise.reject(LOST));
  gate.report(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
  expect(gate.isAvailable).toBe(false);
  await expect(holds.reserve(HOLD)).rejects.toMatchObject({ code: 'unavailable' });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked).toEqual([]);
});
