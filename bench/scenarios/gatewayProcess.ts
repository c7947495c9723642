/**
 * The gateway as a process of its own: `gatewayProcess.ts <databaseUrl> <dataDir> <upstreamUrl>
 * <off|expected|strict>`.
 */
import { openGateway } from '../../src/gateway/index.js';
import type { HoldMode } from '../../src/gateway/proxy/reservations.js';
import { createLedger } from '../../src/ledger.js';
import { createServer } from '../../src/server/index.js';

const [databaseUrl = '', dataDir = '', upstreamUrl = '', holds = ''] = process.argv.slice(2);
const ledger = await createLedger({ databaseUrl });
const gateway = await openGateway({
  ledger,
  databaseUrl,
  dataDir,
  maxInFlightPerPayer: 1_000,
  holds: holds as HoldMode | 'off',
  upstreams: { openai: { url: upstreamUrl, key: 'bench' } },
});
const server = createServer({ ledger, port: 0, plugins: [gateway.plugin] });
console.log(await server.listen());
process.on('SIGTERM', async () => {
  await server.close();
  await gateway.close();
  await ledger.close();
  process.exit(0);
});
