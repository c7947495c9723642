import { type Command, InvalidArgumentError } from 'commander';
import { readDay } from '../days.js';
import { withClient } from '../db/withClient.js';
import { toJsonInteger } from '../money.js';
import { type ReadBackReport, readBack } from '../rollup/archive/readBack.js';
import { READ_BACK_TABLE } from '../rollup/archive/readBack.sql.js';
import type { CommandContext, CommandStatus, Runner } from './context.js';
import { describeFailure, openServer } from './database.js';
import { COMMAND_CLIENT, ensureDatabase, urlOfDatabase } from './otherDatabase.js';
import { formatAmount, formatCount } from './output.js';
import { day } from './rollupOptions.js';
import { tellingWhatRan } from './whatRan.js';

interface ArchiveReadOptions {
  database: string;
  from?: string;
  until?: string;
}

const GO_ON = 'what was read stays; the same command goes on';

/** `archive read`: no way back into the ledger, whose horizon stays, but a table to ask. */
export function registerArchiveRead(archive: Command, run: Runner): void {
  archive
    .command('read <dir>')
    .description(`read archived files into the table ${READ_BACK_TABLE} of a database of their own`)
    .option('--database <name>', 'made on the same server', databaseName, 'microdollar_archive')
    .option('--from <day>', 'first UTC day, inclusive', day)
    .option('--until <day>', 'last UTC day, inclusive')
    .action((directory: string, _options: unknown, command: Command) => {
      // `archive` has --until as well, and takes it.
      const options = command.optsWithGlobals<ArchiveReadOptions>();
      if (options.until !== undefined) readDay('until', options.until);
      return run((context) => readFiles(context, directory, options));
    });
}

async function readFiles(
  { environment, interruption, output }: CommandContext,
  directory: string,
  options: ArchiveReadOptions,
): Promise<CommandStatus> {
  const { database, from, until } = options;
  const server = await openServer({ environment, interruption });
  // A pooler knows the databases it was told of.
  const url = environment.migrationUrl ?? server.url;
  let ran: ReadBackReport | null = null;
  const describe = () => ({
    document: { database, table: READ_BACK_TABLE, ...(ran === null ? {} : toDocument(ran)) },
    text: ran === null ? '' : describeReport(ran, database),
  });
  try {
    return await interruption.guard<CommandStatus>(async () => {
      await ensureDatabase(url, database);
      ran = await tellingWhatRan(output, describe, () =>
        withClient(urlOfDatabase(url, database), COMMAND_CLIENT, (client) =>
          readBack(client, {
            directory,
            from,
            until,
            signal: interruption.gracefully(),
            onProgress: (report) => {
              ran = report;
            },
          }),
        ),
      );
      const { document, text } = describe();
      output.answer(
        { ...document, ...interruption.fields },
        [text, ...interruption.lines(GO_ON)].join('\n'),
      );
      return 0;
    });
  } catch (error) {
    throw describeFailure(error, url);
  } finally {
    await server.stop();
  }
}

function toDocument({ from, until, events, added, costMicrodollars }: ReadBackReport) {
  return { from, until, events, added, cost_microdollars: toJsonInteger(costMicrodollars) };
}

function describeReport(report: ReadBackReport, database: string): string {
  const { from, until, events, added, costMicrodollars } = report;
  if (events === 0) return 'no archived events of these days';
  return (
    `${formatCount(events)} events, ${formatAmount(costMicrodollars)}, of ${from} to ${until} are in ` +
    `${READ_BACK_TABLE} of the database ${database}; ${formatCount(added)} are new`
  );
}

function databaseName(value: string): string {
  if (/^[\w-]{1,63}$/.test(value)) return value;
  throw new InvalidArgumentError('Expected a name of letters, digits, _ and -.');
}
