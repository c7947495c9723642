import { expect, it } from 'vitest';
import type { Statement } from '../../src/db/statement.js';
import { createMetrics } from '../../src/metrics.js';
import { validateEvent } from '../../src/record/event.js';
import { LookupCache } from '../../src/record/lookups.js';
import { Recorder } from '../../src/record/recorder.js';
import { Twins } from '../../src/record/twins.js';

const event = () =>
  validateEvent({ kilo_user_id: 'u', cost: 1, metadata: { feature: 'f' } }, { nulBytesRemoved: 0 });

/** A recorder, and the statements that it sent; the next append ends as it is told to. */
function createRecorder() {
  const sent: Statement[] = [];
  const failures: object[] = [];
  const query = async <Row>(statement: Statement): Promise<Row[]> => {
    sent.push(statement);
    if (statement.name === 'microdollar_resolve_lookups') return [{ place: 1, id: 7 }] as Row[];
    const failure = failures.shift();
    if (failure) throw Object.assign(new Error('planted'), failure);
    return [{ created_micros: '1700000000000000' }] as Row[];
  };
  const lane = { query, boundsWaitMs: null };
  const recorder = new Recorder({
    lane,
    aside: lane,
    twins: new Twins({ waitMs: 1_000, onHeld: () => {} }),
    lookups: new LookupCache(),
    look: async () => [],
    metrics: createMetrics(),
    onAppended: () => {},
  });
  const write = async (failure?: object): Promise<(string | undefined)[]> => {
    if (failure) failures.push(failure);
    sent.length = 0;
    const [outcome] = await recorder.write([event()]);
    expect(await outcome).toMatchObject({ result: { status: 'recorded' } });
    return sent.map(({ name }) => name);
  };
  return { write };
}

it('asks for lookups and the payer once, and anew after a connection was lost', async () => {
  const { write } = createRecorder();
  const [resolved, unknown] = await write();
  expect(resolved).toBe('microdollar_resolve_lookups');
  const [known, ...none] = await write();
  expect(none).toEqual([]);
  expect(known).not.toBe(unknown);
  // A deadlock says nothing of what is stored; another server may lack what was believed.
  expect(await write({ code: '40P01' })).toEqual([known, known]);
  expect(await write({ code: 'ECONNRESET' })).toEqual([known, resolved, unknown]);
  expect(await write()).toEqual([known]);
});
