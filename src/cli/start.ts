import type { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { LedgerError } from '../errors.js';
import { createLedger } from '../ledger.js';
import { logLines } from '../logLines.js';
import { isReached } from '../shards/parts.js';
import { openTelemetry } from '../telemetry/telemetry.js';
import { type AdminKey, leaveShowing, obtainAdminKey, requireSafeAdminKey } from './adminKey.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { describeFailure, migrateDatabase } from './database.js';
import { requireDataDir } from './dataDir.js';
import { endInTime, waitForEnd } from './ending.js';
import { adminKeyPath, type Environment } from './environment.js';
import { openMeteringGateway, requireGatewaySettings, timeToEndMs } from './gateway.js';
import { refuseHiddenPooler } from './hiddenPooler.js';
import { describeListenFailure, requireFreeAddress } from './listenAddress.js';
import { toShellWord } from './output.js';
import { placeOfStart, readRuntime, removeRuntime, writeRuntime } from './runtimeFile.js';
import { type Closer, openServedDatabase } from './servedDatabase.js';
import { prepareShards, type ServedDatabase } from './startShards.js';

const NOTES = `
Settings are environment variables, all in docs/configuration.md. Those that one looks for first:
PORT (8787; 0 takes a free one), HOST (127.0.0.1), DATABASE_URL, MICRODOLLAR_DATA_DIR (.microdollar),
and of the gateway MICRODOLLAR_OPENAI_KEY and MICRODOLLAR_ANTHROPIC_KEY.`;

export const registerStart: Register = (command, run) => {
  command.addHelpText('after', NOTES).action((_options: object, command: Command) => {
    const { shard } = command.optsWithGlobals<{ shard?: string }>();
    return run((context) => start(context, shard));
  });
};

/** For what was printed last to leave. */
const LINGER_MS = 500;

async function start(context: CommandContext, shard?: string): Promise<CommandStatus> {
  const { environment, output } = context;
  if (shard !== undefined) throw servesAll();
  const log = pino({ level: environment.logLevel, base: null }, logLines());
  const closers: Closer[] = [];
  // From the signal on, also where it comes while something is still being opened.
  const ending = waitForEnd(log, () => endInTime(environment.shutdownMs, log));
  const goOn = () => {
    if (ending.cause !== null) throw new Error('ended before it was open');
  };
  try {
    requireSafeAdminKey(environment);
    await requireGatewaySettings(environment);
    await requireOnlyStart(environment);
    await requireFreeAddress(environment);
    closers.push(await requireDataDir(environment.dataDir));
    await writeRuntime(placeOfStart(environment), null);
    closers.push(() => removeRuntime(placeOfStart(environment)));
    const database =
      environment.shards === null
        ? await openOne(environment, closers, log, ending.fail, goOn)
        : await prepareShards(environment, environment.shards, log);
    goOn();
    const serving = await serve(environment, database, closers, log);
    output.answer(toDocument(serving, environment), describe(serving, environment));
    serving.adminKey.isNew = false;
    log.info({ url: serving.url, pid: process.pid }, 'ready');
    await ending.promise;
  } catch (error) {
    // Whatever was not opened after a signal: initdb, say, is ended by the same ^C.
    if (ending.cause === null) throw error;
    log.info({ reason: (error as Error).message }, 'not started');
  } finally {
    await closeAll(closers, log);
    ending.cancel();
  }
  log.info('stopped');
  // Whoever restarts what fails starts it again.
  if (ending.cause instanceof Error) throw ending.cause;
  return 0;
}

function servesAll(): LedgerError {
  return new LedgerError('invalid_request', 'start serves every shard: leave --shard out', {
    details: { field: 'shard' },
  });
}

/** Of an embedded database, one `start` serves. */
async function requireOnlyStart(environment: Environment): Promise<void> {
  const { databaseUrl, dataDir } = placeOfStart(environment);
  const other = databaseUrl === null ? await readRuntime(dataDir) : null;
  if (other === null) return;
  throw new LedgerError(
    'unavailable',
    `the data directory ${dataDir} is in use: process ${other.process.pid} serves ` +
      `${other.serverUrl ?? 'from it'}; stop it, or set another MICRODOLLAR_DATA_DIR`,
    { details: { data_dir: dataDir, pid: other.process.pid } },
  );
}

/** One database, migrated. */
async function openOne(
  environment: Environment,
  closers: Closer[],
  log: Logger,
  fail: (error: Error) => void,
  goOn: () => void,
): Promise<ServedDatabase> {
  const url = await openServedDatabase(environment, { closers, log, fail });
  goOn();
  const { applied } = await migrateDatabase(environment, url);
  if (applied.length > 0) log.info({ applied }, 'migrations applied');
  return {
    url,
    openLedger: (options) =>
      createLedger({
        ...options,
        databaseUrl: url,
        schema: environment.schema ?? undefined,
        ...(environment.replicaUrl === null ? {} : { replicaUrl: environment.replicaUrl }),
      }).catch((error) => {
        throw describeFailure(error, url);
      }),
  };
}

interface Serving {
  url: string;
  adminKey: AdminKey;
}

async function serve(
  environment: Environment,
  database: ServedDatabase,
  closers: Closer[],
  log: Logger,
): Promise<Serving> {
  const adminKey = await obtainAdminKey(environment);
  closers.push(async () => {
    if (adminKey.isNew) await leaveShowing(environment);
  });
  const telemetry = await openTelemetry(environment.telemetry, log);
  closers.push(async () => {
    if ((await telemetry?.close()) === false) endWithoutCollector();
  });
  const ledger = await database.openLedger({
    log,
    tracer: telemetry?.tracer ?? undefined,
    backgroundVerify: true,
    deliverAlerts: true,
    allowPrivateWebhooks: environment.allowsPrivateWebhooks,
    keepAlertsDays: environment.keepAlertsDays,
    preparedStatements: environment.pooler === null,
  });
  closers.push(() => ledger.close());
  if (environment.pooler === null) {
    for (const { ledger: part } of ledger.parts) {
      if (isReached(part)) await refuseHiddenPooler(part.pool);
    }
  }
  // Loaded here: no other command needs the server.
  const { createServer } = await import('../server/app.js');
  const { pagePlugin } = await import('../server/page.js');
  const { host, port, logLevel } = environment;
  const gateway = await openMeteringGateway(environment, ledger, database.url, log);
  closers.push(() => gateway.close());
  const server = await createServer({
    ledger,
    adminKey: adminKey.key,
    host,
    port,
    logLevel,
    tiersUsd: environment.tiersUsd,
    limits: { shutdownTimeoutMs: timeToEndMs(environment.shutdownMs) },
    plugins: [gateway.plugin, pagePlugin()],
    statusParts: { journal: gateway.journalStatus },
    registries: telemetry === null ? [] : [telemetry.registry],
    continuesTraces: telemetry?.continuesTraces,
  });
  closers.push(() => server.close());
  telemetry?.exportMetrics(() => server.readMetrics());
  const serverUrl = await server.listen().catch((error) => {
    throw describeListenFailure(error, environment);
  });
  await writeRuntime(placeOfStart(environment), serverUrl);
  return { url: serverUrl, adminKey };
}

function toDocument({ url, adminKey }: Serving, environment: Environment) {
  return {
    url,
    data_dir: environment.dataDir,
    ...(adminKey.isNew ? { admin_key: adminKey.key } : {}),
  };
}

/** Ready, the key when it is new, and what to do next. */
function describe({ url, adminKey }: Serving, environment: Environment): string {
  const keyFile = adminKeyPath(environment.dataDir);
  const key =
    environment.adminKey === null ? `$(cat ${toShellWord(keyFile)})` : '$MICRODOLLAR_ADMIN_KEY';
  const headers = `-H "authorization: Bearer ${key}" -H 'content-type: application/json'`;
  const event = '{"events":[{"kilo_user_id":"ada","cost":1250}]}';
  return [
    `microdollar is ready: ${url}`,
    ...(adminKey.isNew ? [`admin key, shown this once (kept in ${keyFile}): ${adminKey.key}`] : []),
    'next:',
    `  curl -s ${headers} ${url}/api/users -d '{"id":"ada"}'`,
    `  curl -s ${headers} ${url}/api/usage -d '${event}'`,
    `  open ${url} in a browser`,
  ].join('\n');
}

/** A collector that does not answer would keep the process for as long as the SDK tries. */
function endWithoutCollector(): void {
  setTimeout(() => process.exit(), LINGER_MS).unref();
}

/** In reverse; one that fails does not keep the others open, nor hide why we stop. */
async function closeAll(closers: readonly Closer[], log: Logger): Promise<void> {
  for (const close of closers.toReversed()) {
    await close().catch((error: Error) => {
      log.error({ reason: error.message }, 'not closed cleanly');
    });
  }
}
