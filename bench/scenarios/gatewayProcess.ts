/**
 * The gateway as a process of its own: `gatewayProcess.ts <databaseUrl> <dataDir> <upstreamUrl>
 * <off|expected|strict>`.
 */
import { openGateway } from '../../src/gateway/index.js';
import type { HoldMode } from '../../src/gateway/proxy/reservations.js';
import { createLedger } from '../../src/ledger.js';
import { createServer } from '../../src/server/index.js';
import { readTelemetrySettings } from '../../src/telemetry/settings.js';
import { openTelemetry } from '../../src/telemetry/telemetry.js';

const [databaseUrl = '', dataDir = '', upstreamUrl = '', holds = ''] = process.argv.slice(2);
const log = { warn: () => {}, error: () => {} };
const telemetry = await openTelemetry(readTelemetrySettings(process.env), log);
const ledger = await createLedger({ databaseUrl, tracer: telemetry?.tracer ?? undefined });
const gateway = await openGateway({
  ledger,
  databaseUrl,
  dataDir,
  maxInFlightPerPayer: 1_000,
  holds: holds as HoldMode | 'off',
  upstreams: { openai: { url: upstreamUrl, key: 'bench' } },
});
const server = createServer({ ledger, port: 0, plugins: [gateway.plugin] });
telemetry?.exportMetrics(() => server.readMetrics());
console.log(await server.listen());
process.on('SIGTERM', async () => {
  await server.close();
  await gateway.close();
  await ledger.close();
  await telemetry?.close();
  process.exit(0);
});
