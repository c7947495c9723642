import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { InvalidArgumentError, Option } from 'commander';
import type { Pool } from 'pg';
import { readDay } from '../days.js';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { ensureAzureAccounts } from '../importing/azureAccounts.js';
import { dryRunSink } from '../importing/dryRun.js';
import { type ImportFile, importFiles } from '../importing/importFiles.js';
import type { ImportReport } from '../importing/importReport.js';
import { findListPrice } from '../importing/listPrice.js';
import { STDIN } from '../importing/openInput.js';
import { creatingAccounts, type EventSink, ledgerSink, rawSink } from '../importing/sinks.js';
import { IMPORT_FORMATS, type ImportFormat } from '../importing/types.js';
import { noteForeignRowsStatement } from '../rollup/readMode.sql.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { type CommandDatabase, withDatabase, withMigratedDatabase } from './database.js';
import { describeReport } from './importReport.js';
import { startProgress } from './progress.js';

const MAX_USERS = 1_000_000;

interface ImportCommandOptions {
  format?: ImportFormat;
  dryRun?: true;
  user?: string;
  org?: string;
  createAccounts?: true;
  users: number;
  orgs: number;
  model: string;
  shiftTo?: string;
  raw?: true;
}

export const registerImport: Register = (command, run) => {
  command
    .addOption(
      new Option('--format <format>', 'default: from the extension').choices(IMPORT_FORMATS),
    )
    .option('--dry-run', 'say what would be recorded, and write nothing')
    .option('--user <id>', 'litellm: of rows that name no user; openrouter: of every row')
    .option('--org <id>', "litellm, openrouter: every row is this organization's")
    .option('--create-accounts', 'litellm, openrouter: create users and organizations named')
    .option('--users <n>', 'azure-llm: spread over this many users', count(1), 100)
    .option('--orgs <n>', 'azure-llm: and this many organizations', count(0), 0)
    .option('--model <model>', 'azure-llm: priced as this model, [provider/]model', 'gpt-4o')
    .option('--shift-to <day>', 'move the last day of the files to this UTC day, keeping times')
    .option('--raw', 'write usage rows only, no rollup and no balance');
  command.addHelpText('after', FORMATS);
  command.action((files: string[], options: ImportCommandOptions) =>
    run((context) => importCommand(context, files, options)),
  );
};

const FORMATS = `
Files may be compressed with gzip; - is standard input, with --format.
jsonl is one event a line; csv has a header of column names (and metadata.<field>).
litellm: rows of LiteLLM_SpendLogs, CSV with a header or JSON Lines. user, api_key, team_id (as
project), end_user, session_id and request_tags become attribution; startTime is the time.
openrouter: the CSV of its activity, a row a generation (or a day and model). Say --user.
Both tell which columns were left out, and every row whose cost could not be read.

A row without an id gets one of its content and of its occurrence among rows of equal content: the
order of rows and columns, line ends, quoting, 5 or 5.0 and the offset of a time do not count. A column
that an earlier file did not have, or had empty, makes other rows of them, which are recorded beside the
earlier ones: where the columns of an export have changed, see --dry-run first, and keep what is new.
Rows of litellm and openrouter are known by request_id and generation_id.

azure-llm (TIMESTAMP,ContextTokens,GeneratedTokens) names no users. The rule that gives it some: with
c = SHA-256("<TIMESTAMP>,<ContextTokens>,<GeneratedTokens>") in hex, the time without zeros at its
end, and h = SHA-256("<c>:<occurrence>"), a request belongs to user number (h[16..21] mod users) + 1
(azure-user-001, ...). User u is a member of organization (u mod orgs) + 1, and every fourth request
(h[22..25] mod 4 = 0) is that organization's. Users and organizations are created. The cost is the
list price of --model on the request's day.`;

async function importCommand(
  context: CommandContext,
  paths: readonly string[],
  options: ImportCommandOptions,
): Promise<CommandStatus> {
  const totalBytes = await requireFiles(paths);
  const files = paths.map((path) => ({ path, format: options.format ?? guessFormat(path) }));
  requireFitting(files, options);
  const shiftTo = options.shiftTo === undefined ? undefined : requireShift(options.shiftTo);
  const listPrice = findListPrice(options.model);
  const azure = { users: options.users, organizations: options.orgs, listPrice };
  const isAzure = files.some((file) => file.format === 'azure-llm');

  const withTarget = options.dryRun ? withMigratedDatabase : withDatabase;
  return withTarget(context, async (database) => {
    // Opened before anything else is asked of it: the import folds beside itself.
    if (!options.dryRun && !options.raw) await database.ledger({ backgroundFold: true });
    if (isAzure && !options.dryRun) await ensureAzureAccounts(await database.accounts(), azure);
    const sink = await openSink(context, database, options, isAzure);
    const { output, interruption } = context;
    const progress = startProgress(output, 'importing', totalBytes);
    let report: ImportReport;
    try {
      report = await importFiles({
        files,
        sink,
        azure,
        payer: {
          ...(options.user === undefined ? {} : { kiloUserId: options.user }),
          ...(options.org === undefined ? {} : { organizationId: options.org }),
        },
        ...(shiftTo === undefined ? {} : { shiftTo }),
        onProgress: (bytes) => progress.update(bytes),
        signal: interruption.gracefully(),
      });
    } finally {
      progress.stop();
    }
    if (options.dryRun) report.dry_run = true;
    // Reports are exact either way; whoever looks at the base tables finds them so as well.
    else if (!options.raw) await (await database.ledger()).fold();
    const goOn = 'what was recorded stays; the same import again records the rest';
    output.answer(
      { ...report, ...interruption.fields },
      [describeReport(report), ...interruption.lines(goOn)].join('\n'),
    );
    return report.rejected === 0 ? 0 : 1;
  });
}

async function openSink(
  context: CommandContext,
  database: CommandDatabase,
  options: ImportCommandOptions,
  isAzure: boolean,
): Promise<EventSink> {
  const createsAccounts = options.createAccounts === true;
  if (options.dryRun) {
    return dryRunSink(database.pool(), { createsAccounts: createsAccounts || isAzure });
  }
  const sink = options.raw
    ? notingForeignRows(context, database.pool())
    : ledgerSink(await database.ledger());
  return createsAccounts ? creatingAccounts(await database.accounts(), sink) : sink;
}

/** @throws LedgerError `invalid_request` for options that do not go with the files */
function requireFitting(
  files: readonly ImportFile[],
  { user, org, createAccounts, shiftTo }: ImportCommandOptions,
): void {
  const refuse = (field: string, problem: string) => {
    throw new LedgerError('invalid_request', `${field} ${problem}`, { details: { field } });
  };
  const isOf = (...formats: ImportFormat[]) =>
    files.every(({ format }) => formats.includes(format));
  if (!isOf('litellm', 'openrouter')) {
    const given = { '--user': user, '--org': org, '--create-accounts': createAccounts };
    for (const [field, value] of Object.entries(given)) {
      if (value !== undefined) refuse(field, 'goes with --format litellm and openrouter');
    }
  }
  if (files.some(({ format }) => format === 'openrouter') && user === undefined) {
    refuse('--user', 'is required: an OpenRouter export does not say whose it is');
  }
  if (org !== undefined) readUuid('--org', org);
  const streams = files.filter(({ path }) => path === STDIN).length;
  if (streams > 1) refuse(STDIN, 'is named twice; standard input can be read once');
  if (streams > 0 && shiftTo !== undefined) {
    refuse('--shift-to', 'reads the files twice, which standard input cannot be');
  }
}

/** With the first rows: an import that fails midway has left some, too. */
function notingForeignRows(context: CommandContext, pool: Pool): EventSink {
  const sink = rawSink(pool);
  let noted: Promise<void> | null = null;
  return async (events) => {
    const outcomes = await sink(events);
    if (outcomes.some(({ status }) => status === 'recorded')) {
      noted ??= noteForeignRows(context, pool);
      await noted;
    }
    return outcomes;
  };
}

/** Raw rows are what no rollup knows: reads must not claim otherwise (I10). */
async function noteForeignRows(context: CommandContext, pool: Pool): Promise<void> {
  const { text, values } = noteForeignRowsStatement(
    'usage rows were imported without the rollup (import --raw)',
  );
  const { rows } = await pool.query<{ read_mode: string }>(text, values);
  if (rows[0]?.read_mode !== 'raw') return;
  context.output.note(
    'reads now come from raw usage; after `backfill` and `verify`, `read-mode` tells how to switch',
  );
}

function guessFormat(path: string): ImportFormat {
  const extension = extname(path.replace(/\.gz$/i, '')).toLowerCase();
  if (extension === '.jsonl' || extension === '.ndjson') return 'jsonl';
  if (extension === '.csv') return 'csv';
  const name = path === STDIN ? 'standard input' : path;
  throw new LedgerError(
    'invalid_request',
    `the format of ${name} is not clear from its name; say --format ${IMPORT_FORMATS.join('|')}`,
    { details: { file: path } },
  );
}

/**
 * Total size in bytes; 0 with standard input.
 * @throws LedgerError `invalid_request` when one is not a readable file
 */
async function requireFiles(paths: readonly string[]): Promise<number> {
  let bytes = 0;
  for (const path of paths) {
    if (path === STDIN) continue;
    const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
      throw new LedgerError('invalid_request', `cannot read ${path} (${error.code})`, {
        details: { file: path },
      });
    });
    if (!found.isFile()) {
      throw new LedgerError('invalid_request', `${path} is not a file`, {
        details: { file: path },
      });
    }
    bytes += found.size;
  }
  return paths.includes(STDIN) ? 0 : bytes;
}

function requireShift(day: string): string {
  readDay('--shift-to', day);
  if (day > new Date().toISOString().slice(0, 10)) {
    throw new LedgerError('invalid_request', '--shift-to lies in the future: usage has happened', {
      details: { field: '--shift-to' },
    });
  }
  return day;
}

/** A parser for a whole number of at least `least`. */
function count(least: number): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < least || number > MAX_USERS) {
      throw new InvalidArgumentError(`Expected a whole number from ${least} to ${MAX_USERS}.`);
    }
    return number;
  };
}
