/**
 * A process that uses an embedded server: `holdEmbedded.ts <dataDir>`, where `-` stands for the
 * throwaway server of `microdollar/testing`, and `-<dataDir>` for one on a copy of that. Prints one
 * line of JSON when it is ready (or failed), then obeys one word on stdin: `stop`, `exit` (without
 * stop) or `throw` (an uncaught error).
 */
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/db/embedded.js';
import { LedgerError } from '../../src/errors.js';

const [dataDir = '', startTimeoutMs = '30000'] = process.argv.slice(2);

/** Most hold a server of their directory, and load no more than that takes. */
async function startServer(): Promise<EmbeddedPostgres> {
  if (dataDir === '-') return (await import('../../src/testing.js')).startEmbeddedPostgres();
  if (dataDir.startsWith('-')) {
    const { startThrowaway } = await import('../../src/testing/throwaway.js');
    const { copyCluster } = await import('./madeCluster.js');
    return startThrowaway({}, (own) => copyCluster(dataDir.slice(1), own));
  }
  return startEmbeddedPostgres({
    dataDir,
    startTimeoutMs: Number(startTimeoutMs),
  });
}

try {
  const server = await startServer();
  const { url, port, pid, joined, dataDir: usedDir } = server;
  console.log(JSON.stringify({ url, port, pid, joined, dataDir: usedDir }));
  process.stdin.on('data', async (data) => {
    const word = data.toString().trim();
    if (word === 'exit') process.exit(0);
    if (word === 'throw') throw new Error('uncaught, on purpose');
    await server.stop();
    process.exit(0);
  });
} catch (error) {
  if (!(error instanceof LedgerError)) throw error;
  console.log(JSON.stringify({ code: error.code, message: error.message }));
}
