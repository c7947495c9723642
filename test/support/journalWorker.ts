/**
 * A gateway process that is made to be killed: `journalWorker.ts <databaseUrl> <dataDir> <userId>`.
 * Serves made-up requests without end, and says on stdout what it would have told a client, line
 * by line, each only after it is durable: `ready`, `begun <id>`, `settled <id> <cost>`,
 * `abandoned <id>`, and `refused`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { newIntent, openGateway, usageOf } from './gateway.js';

const [databaseUrl = '', dataDir = '', userId = ''] = process.argv.slice(2);
const CONCURRENT_REQUESTS = 16;

const gateway = await openGateway(databaseUrl, dataDir, {
  databaseTimeoutMs: 1_000,
  maintenanceIntervalMs: 50,
  segmentBytes: 16 * 1024,
});
// A pipe is written synchronously: what was said has left the process.
const say = (line: string) => process.stdout.write(`${line}\n`);
say('ready');
await Promise.all(Array.from({ length: CONCURRENT_REQUESTS }, serve));

async function serve(): Promise<void> {
  for (let request = 0; ; request++) {
    const intent = newIntent(userId);
    try {
      await gateway.sink.begin(intent);
    } catch {
      say('refused');
      await sleep(5);
      continue;
    }
    if (request % 5 === 4) {
      await sleep(Math.random() * 10);
      await gateway.sink.abandon(intent.id);
      say(`abandoned ${intent.id}`);
      continue;
    }
    say(`begun ${intent.id}`);
    await sleep(Math.random() * 10);
    const cost = 1 + (request % 97);
    await gateway.sink.settle(usageOf(intent, { cost }));
    say(`settled ${intent.id} ${cost}`);
  }
}
