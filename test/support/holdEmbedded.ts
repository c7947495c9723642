/**
 * A process that uses an embedded server: `holdEmbedded.ts <dataDir>`, where `-` stands for the
 * throwaway server of `microdollar/testing`. Prints one line of JSON
 * when it is ready (or failed), then obeys one word on stdin: `stop`, `exit` (without stop) or
 * `throw` (an uncaught error).
 */
import { startEmbeddedPostgres } from '../../src/db/embedded.js';
import { LedgerError } from '../../src/errors.js';
import { startEmbeddedPostgres as startThrowaway } from '../../src/testing.js';

const [dataDir = '', startTimeoutMs = '30000'] = process.argv.slice(2);

try {
  const server =
    dataDir === '-'
      ? await startThrowaway()
      : await startEmbeddedPostgres({ dataDir, startTimeoutMs: Number(startTimeoutMs) });
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
