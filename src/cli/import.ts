import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Pool } from 'pg';
import { readDay } from '../days.js';
import { LedgerError } from '../errors.js';
import { ensureAzureAccounts } from '../importing/azureAccounts.js';
import { importFiles } from '../importing/importFiles.js';
import type { ImportReport } from '../importing/importReport.js';
import { findListPrice } from '../importing/listPrice.js';
import { ledgerSink, rawSink } from '../importing/sinks.js';
import { IMPORT_FORMATS, type ImportFormat } from '../importing/types.js';
import { noteForeignRowsStatement } from '../rollup/readMode.sql.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withDatabase } from './database.js';
import { alignTable, formatAmount, formatCount } from './output.js';
import { startProgress } from './progress.js';

const MAX_USERS = 1_000_000;

interface ImportCommandOptions {
  format?: ImportFormat;
  users: number;
  orgs: number;
  model: string;
  shiftTo?: string;
  raw?: true;
}

export const registerImport: Register = (program, run) => {
  const command: Command = program
    .command('import <files...>')
    .description('record usage from files; a second run records nothing')
    .addOption(
      new Option('--format <format>', 'default: from the extension').choices(IMPORT_FORMATS),
    )
    .option('--users <n>', 'azure-llm: spread over this many users', count(1), 100)
    .option('--orgs <n>', 'azure-llm: and this many organizations', count(0), 0)
    .option('--model <model>', 'azure-llm: priced as this model, [provider/]model', 'gpt-4o')
    .option('--shift-to <day>', 'move the last day of the files to this UTC day, keeping times')
    .option('--raw', 'write usage rows only, no rollup and no balance');
  command.addHelpText('after', AZURE_RULE);
  command.action((files: string[], options: ImportCommandOptions) =>
    run((context) => importCommand(context, files, options)),
  );
};

const AZURE_RULE = `
Formats: jsonl is one event a line; csv has a header of column names (and metadata.<field>).
azure-llm (TIMESTAMP,ContextTokens,GeneratedTokens) names no users. The rule that gives it some:
with h = SHA-256("<file digest>:<line>"), a request belongs to user number (h[16..21] mod users) + 1
(azure-user-001, ...). User u is a member of organization (u mod orgs) + 1, and every fourth request
(h[22..25] mod 4 = 0) is that organization's. Users and organizations are created. The cost is the
list price of --model on the request's day.
Ids come from the file's digest and the line number where a line has none.`;

async function importCommand(
  context: CommandContext,
  paths: readonly string[],
  options: ImportCommandOptions,
): Promise<CommandStatus> {
  const files = paths.map((path) => ({ path, format: options.format ?? guessFormat(path) }));
  const totalBytes = await requireFiles(paths);
  const shiftTo = options.shiftTo === undefined ? undefined : requireShift(options.shiftTo);
  const listPrice = findListPrice(options.model);
  const azure = { users: options.users, organizations: options.orgs, listPrice };

  return withDatabase(context, async (database) => {
    if (files.some((file) => file.format === 'azure-llm')) {
      await ensureAzureAccounts(database.pool(), azure);
    }
    const ledger = options.raw ? null : await database.ledger({ backgroundFold: true });
    const sink = ledger === null ? rawSink(database.pool()) : ledgerSink(ledger);
    const progress = startProgress(context.output, 'importing', totalBytes);
    let report: ImportReport;
    try {
      report = await importFiles({
        files,
        sink,
        azure,
        ...(shiftTo === undefined ? {} : { shiftTo }),
        onProgress: (bytes) => progress.update(bytes),
      });
    } finally {
      progress.stop();
    }
    if (options.raw && report.recorded > 0) await noteForeignRows(context, database.pool());
    // Reports are exact either way; whoever looks at the base tables finds them so as well.
    await ledger?.fold();
    context.output.answer(report, describeReport(report));
    return report.rejected === 0 ? 0 : 1;
  });
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
  const extension = extname(path).toLowerCase();
  if (extension === '.jsonl' || extension === '.ndjson') return 'jsonl';
  if (extension === '.csv') return 'csv';
  throw new LedgerError(
    'invalid_request',
    `the format of ${path} is not clear from its name; say --format ${IMPORT_FORMATS.join('|')}`,
    { details: { file: path } },
  );
}

/** Total size in bytes. @throws LedgerError `invalid_request` when one is not a readable file */
async function requireFiles(paths: readonly string[]): Promise<number> {
  let bytes = 0;
  for (const path of paths) {
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
  return bytes;
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

function describeReport(report: ImportReport): string {
  const accepted =
    BigInt(report.recorded_cost_microdollars) + BigInt(report.duplicate_cost_microdollars);
  const table = alignTable(
    [
      ['lines', formatCount(report.lines)],
      ['recorded', formatCount(report.recorded), formatAmount(report.recorded_cost_microdollars)],
      [
        'duplicates',
        formatCount(report.duplicates),
        formatAmount(report.duplicate_cost_microdollars),
      ],
      ['rejected', formatCount(report.rejected)],
      ['cost', '', formatAmount(accepted)],
    ],
    [1, 2],
  );
  const remarks = report.rejections.map(
    ({ file, line, code, reason }) => `${file}, line ${line}: ${reason} (${code})`,
  );
  const unlisted = report.rejected - report.rejections.length;
  if (unlisted > 0) remarks.push(`and ${formatCount(unlisted)} more`);
  if (report.nul_bytes_removed > 0) {
    remarks.push(`${formatCount(report.nul_bytes_removed)} NUL bytes removed`);
  }
  return [table, ...remarks].join('\n');
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
