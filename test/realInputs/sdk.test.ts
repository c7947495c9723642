import { afterAll, beforeAll, expect, it } from 'vitest';
import { meteredFetch, withUsage } from '../../src/gateway/sdk/index.js';
import { type ReplayUpstream, startReplayUpstream } from '../support/replayUpstream.js';
import { RecordingLedger } from '../unit/gateway/recordingLedger.js';
import { call, collect, openClients, tokensOf, user } from '../unit/gateway/sdkCalls.js';
import { listRecordings } from './recordings.js';

const recordings = listRecordings();
let upstream: ReplayUpstream;

beforeAll(async () => {
  upstream = await startReplayUpstream({ answers: recordings });
});
afterAll(() => upstream.close());

it.each(recordings)(
  '$api $name, streamed $streamed: metered, the same answer, and its tokens recorded',
  async (recording) => {
    const clients = openClients(upstream.url);
    const plain = JSON.stringify(await collect(await call(recording, clients)));
    const ledger = new RecordingLedger();
    const byCall = await withUsage(ledger, user, () => call(recording, clients));
    expect(JSON.stringify(await collect(byCall))).toBe(plain);
    const fetch = meteredFetch(ledger, user);
    const byFetch = await call(recording, {
      openai: clients.openai.withOptions({ fetch }),
      anthropic: clients.anthropic.withOptions({ fetch }),
    });
    expect(JSON.stringify(await collect(byFetch))).toBe(plain);
    expect(ledger.events).toHaveLength(2);
    for (const event of ledger.events) expect(event).toMatchObject(tokensOf(recording));
  },
);
