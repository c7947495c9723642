import { stat } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { isDatabaseAway } from '../../src/db/sqlstate.js';
import { DeadOwners } from '../../src/deadOwners.js';
import { LedgerError } from '../../src/errors.js';
import { DatabaseGate } from '../../src/gateway/durable/databaseGate.js';
import { estimateOf } from '../../src/gateway/durable/estimate.js';
import type { DatedUsage } from '../../src/gateway/durable/records.js';
import { retryLetters } from '../../src/gateway/durable/retryDeadLetters.js';

const refused = () => Promise.reject(Object.assign(new Error('gone'), { code: 'ECONNREFUSED' }));
const never = () => new Promise<never>(() => {});

function openGate(probe: () => Promise<unknown> = never, timeoutMs = 60_000) {
  const changes: boolean[] = [];
  const gate = new DatabaseGate({ probe, timeoutMs, onChange: (is) => changes.push(is) });
  return { gate, changes };
}

describe('the gate to the database', () => {
  it('closes at a lost connection, and then asks nobody', async () => {
    const { gate, changes } = openGate();
    await expect(gate.run(refused)).rejects.toThrow('gone');
    expect(changes).toEqual([false]);
    let asked = false;
    const ask = async () => {
      asked = true;
    };
    await expect(gate.run(ask)).rejects.toMatchObject({ code: 'unavailable' });
    expect(asked).toBe(false);
    gate.stop();
  });

  it('opens when a probe succeeds', async () => {
    let isBack = false;
    const back = new Promise<void>((resolve) => {
      const gate = new DatabaseGate({
        probe: () => (isBack ? Promise.resolve() : refused()),
        timeoutMs: 60_000,
        onChange: (isAvailable) => {
          isBack = true;
          if (isAvailable) resolve();
        },
      });
      gate.run(refused).catch(() => {});
    });
    await back;
  });

  it('stays open for what says nothing about the database', async () => {
    const { gate, changes } = openGate();
    const errors = [
      new LedgerError('unknown_user', 'no'),
      new LedgerError('unavailable', 'waiting', { details: { waiting: 1 } }),
      Object.assign(new Error('deadlock'), { code: '40P01' }),
      Object.assign(new Error('lock timeout'), { code: '55P03' }),
    ];
    for (const error of errors) {
      await expect(gate.run(() => Promise.reject(error))).rejects.toBe(error);
    }
    expect(changes).toEqual([]);
  });

  it('reads answers that are there before it gives up: the process itself may have stood still', async () => {
    const { gate, changes } = openGate(never, 20);
    let asked: Promise<unknown>[] = [];
    // After what is read in a turn of the event loop, so that timers are the next.
    await new Promise<void>((stoodStill) => {
      setImmediate(() => {
        asked = Array.from({ length: 4 }, () => gate.run(() => stat(import.meta.filename)));
        const untilMs = performance.now() + 200;
        while (performance.now() < untilMs);
        stoodStill();
      });
    });
    expect(await Promise.all(asked)).toHaveLength(4);
    expect(changes).toEqual([]);
    gate.stop();
  });

  it('closes after three timeouts in a row, and not after three with a success between', async () => {
    const { gate, changes } = openGate(never, 5);
    const slow = () => expect(gate.run(never)).rejects.toMatchObject({ code: 'unavailable' });
    await slow();
    await slow();
    await gate.run(async () => {});
    await slow();
    await slow();
    expect(changes).toEqual([]);
    await slow();
    expect(changes).toEqual([false]);
    gate.stop();
  });

  it.each([
    [{ code: '57P01' }, true],
    [{ code: '53300' }, true],
    [{ code: '25006' }, true],
    [{ code: '08006' }, true],
    [{ message: 'Connection terminated' }, true],
    [{ code: '23505' }, false],
    [{ code: '42P01' }, false],
    [{ code: '57014' }, false],
  ])('takes %j for away: %s', (error, isAway) => {
    expect(isDatabaseAway(error)).toBe(isAway);
  });
});

describe('dead owners', () => {
  const row = (owner: string, beat: string | null) => ({ owner, beat });

  it('are those whose heartbeat stood still for the lease while we watched', () => {
    let nowMs = 0;
    const owners = new DeadOwners(100, () => nowMs);
    expect(owners.look([row('a', '1'), row('b', '1'), row('c', null)])).toEqual([]);
    nowMs = 50;
    expect(owners.look([row('a', '1'), row('b', '2'), row('c', null)])).toEqual([]);
    nowMs = 100;
    expect(owners.look([row('a', '1'), row('b', '2'), row('c', null)])).toEqual(['a', 'c']);
    nowMs = 150;
    expect(owners.look([row('b', '2')])).toEqual(['b']);
  });

  it('get a full lease after a time in which nobody could watch', () => {
    let nowMs = 0;
    const owners = new DeadOwners(100, () => nowMs);
    owners.look([row('a', '1')]);
    nowMs = 1_000;
    expect(owners.look([row('a', '1')])).toEqual([]);
    nowMs = 1_050;
    owners.startOver();
    expect(owners.look([row('a', '1')])).toEqual([]);
    nowMs = 1_100;
    expect(owners.look([row('a', '1')])).toEqual([]);
    nowMs = 1_150;
    expect(owners.look([row('a', '1')])).toEqual(['a']);
  });

  it('are looked for a few times a lease', () => {
    let nowMs = 0;
    const owners = new DeadOwners(100, () => nowMs);
    expect(owners.isTimeToLook).toBe(true);
    owners.look([]);
    expect(owners.isTimeToLook).toBe(false);
    nowMs = 10;
    expect(owners.isTimeToLook).toBe(true);
  });
});

describe('the estimate of an intent', () => {
  const intent = {
    id: '019a0000-0000-7000-8000-000000000001',
    kilo_user_id: 'u',
    organization_id: null,
    api_key_id: 'k',
    api_kind: 'openai_chat',
    requested_model: 'm',
    created_at: '2026-01-01T00:00:00.000Z',
    input_tokens_estimate: 12,
    max_tokens: null,
    streamed: false,
  };

  it('says that a response in the background may go on without anybody knowing its name', () => {
    expect(estimateOf({ ...intent, api_kind: 'openai_background' }, null).metadata).toMatchObject({
      estimated: 'intent_without_usage',
      api_kind: 'openai_responses',
      usage_details: { doubts: ['lost_response'] },
    });
    expect(estimateOf(intent, null).metadata).not.toHaveProperty('usage_details');
  });

  it('bears its id and time, is flagged, and is the same every time', () => {
    const event = estimateOf(intent, { cost: 5, output_tokens: 3, price_source: 'list' });
    expect(event).toEqual(estimateOf(intent, { cost: 5, output_tokens: 3, price_source: 'list' }));
    expect(event).toMatchObject({
      id: intent.id,
      created_at: intent.created_at,
      cost: 5,
      input_tokens: 12,
      output_tokens: 3,
      metadata: { estimated: 'intent_without_usage', price_source: 'list' },
    });
    expect(estimateOf(intent, null)).toMatchObject({ cost: 0, metadata: { unpriced: true } });
  });
});

it('a dead letter whose id, or shard, cannot be used now keeps no other waiting', async () => {
  const letters = ['held', 'shard', 'good'].map((id) => ({
    id,
    at: '',
    reason: 'unavailable',
    message: '',
    event: { id, kilo_user_id: 'u', cost: 1 } as DatedUsage,
  }));
  const resolved: string[] = [];
  const file = { resolve: async (ids: readonly string[]) => void resolved.push(...ids) };
  const ledger = {
    recordUsage: async ({ id }: DatedUsage) => {
      const details = id === 'held' ? { id } : { shard: 'a' };
      if (id !== 'good') throw new LedgerError('unavailable', 'planted', { details });
    },
  };
  const report = await retryLetters(ledger as never, file as never, letters);
  expect([report.resolved, resolved]).toEqual([1, ['good']]);
  expect(report.refused.map(({ id }) => id)).toEqual(['held', 'shard']);
});
