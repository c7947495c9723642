/**
 * A gateway as a process of its own, to be killed: `gatewayWorker.ts <databaseUrl> <dataDir> <port>
 * <upstreamUrl> [off|expected|strict]`. Prints its URL when it is ready. The database may be away: it waits for it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { openGateway } from '../../src/gateway/index.js';
import type { HoldMode } from '../../src/gateway/proxy/reservations.js';
import { createLedger } from '../../src/ledger.js';
import { createServer } from '../../src/server/index.js';

const [databaseUrl = '', dataDir = '', port = '0', upstreamUrl = '', holds = 'off'] =
  process.argv.slice(2);

async function openLedger() {
  for (;;) {
    try {
      return await createLedger({ databaseUrl, poolSize: 4 });
    } catch {
      await sleep(100);
    }
  }
}

const ledger = await openLedger();
const upstream = { url: upstreamUrl, key: 'k' };
const gateway = await openGateway({
  ledger,
  databaseUrl,
  dataDir,
  databaseTimeoutMs: 1_000,
  maintenanceIntervalMs: 200,
  holds: holds as HoldMode | 'off',
  upstreams: { openai: upstream, anthropic: upstream },
});
const server = createServer({
  ledger,
  port: Number(port),
  logLevel: 'error',
  plugins: [gateway.plugin],
});
console.log(await server.listen());
process.on('SIGTERM', async () => {
  await server.close();
  await gateway.close();
  await ledger.close();
  process.exit(0);
});
