import { once } from 'node:events';
import { plainUrl } from '../db/citus/placement.js';
import { LedgerError } from '../errors.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { openServer } from './database.js';
import { urlOfDatabase } from './otherDatabase.js';
import { readRuntime } from './runtimeFile.js';

const LONG_MS = 3_600_000;

interface PsqlUrlOptions {
  database?: string;
  hold?: true;
}

export const registerPsqlUrl: Register = (command, run) => {
  command
    .option('--database <name>', 'another database of the same server')
    .option('--hold', 'keep the embedded server running, until Ctrl-C, where no `start` does')
    .action((options: PsqlUrlOptions) => run((context) => showUrl(context, options)));
};

async function showUrl(
  { environment, interruption, output }: CommandContext,
  { database, hold }: PsqlUrlOptions,
): Promise<CommandStatus> {
  const { dataDir, databaseUrl } = environment;
  const isServed = databaseUrl !== null || (await readRuntime(dataDir)) !== null;
  if (!isServed && !hold) {
    throw new LedgerError(
      'unavailable',
      `no server runs from ${dataDir}: run \`start\` beside it, or \`psql-url --hold\` in another ` +
        'terminal',
      { details: { data_dir: dataDir } },
    );
  }
  const server = await openServer({ environment, interruption });
  try {
    return await interruption.guard<CommandStatus>(async () => {
      const own = await plainUrl(server.url);
      const url = database === undefined ? own : urlOfDatabase(own, database);
      output.answer({ url }, url);
      if (!hold) return 0;
      output.note('the server runs until Ctrl-C');
      const signal = interruption.gracefully();
      // A signal alone keeps no process alive, nor does a standard input that is closed.
      const alive = setInterval(() => {}, LONG_MS);
      if (!signal.aborted) await once(signal, 'abort');
      clearInterval(alive);
      return 0;
    });
  } finally {
    await server.stop();
  }
}
