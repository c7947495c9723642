import { refuseOnCitus } from '../db/citus/placedUrl.js';
import { dumpLedger } from '../db/dump/dump.js';
import { readManifest } from '../db/dump/manifest.js';
import { restoreLedger } from '../db/dump/restore.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { formatCount, formatInstant } from './output.js';
import { withOwner } from './owner.js';
import { startProgress } from './progress.js';

export const registerDump: Register = (command, run) => {
  command
    .addHelpText('after', NOTES)
    .action((directory: string) => run((context) => dump(context, directory)));
};

export const registerRestore: Register = (command, run) => {
  command
    .addHelpText('after', NOTES)
    .action((directory: string) => run((context) => restore(context, directory)));
};

const NOTES = `
Needs no PostgreSQL client. A dump is a directory: manifest.json, and a file for each table, as COPY
writes it, gzipped. It holds everything that the ledger knows of people, hashes of keys, and the secrets
of webhooks in clear: keep it as you keep the database. Not in it:
tables and columns of other programs, the journal, and the admin key (MICRODOLLAR_DATA_DIR).
restore brings the schema up to this version, and begins a new generation of positions, as
\`migrate\` does after any restore. MICRODOLLAR_DATA_DIR of a new directory is a new database.`;

async function dump(context: CommandContext, directory: string): Promise<CommandStatus> {
  const { output, interruption } = context;
  interruption.remark = 'nothing was written; run it again';
  return withMigratedDatabase(context, async (database) => {
    refuseOnCitus(database.url, 'dump', 'back up the cluster, or move payers to another shard');
    const { onTable, stop } = tableProgress(context, 'dump');
    try {
      const { tables, rows, leftOut } = await dumpLedger(await database.client(), {
        directory,
        onDirectory: () => {
          interruption.remark = `${directory} holds no whole dump; remove it, and run it again`;
        },
        onTable,
      });
      output.answer(
        {
          directory,
          rows,
          tables: tables.map((table) => ({ name: table.name, rows: table.rows })),
          left_out: leftOut,
        },
        [
          `${formatCount(rows)} rows of ${tables.length} tables are in ${directory}`,
          ...leftOut.map((column) => `left out: ${column}, a column of another program`),
        ].join('\n'),
      );
      return 0;
    } finally {
      stop();
    }
  });
}

async function restore(context: CommandContext, directory: string): Promise<CommandStatus> {
  const { output, interruption } = context;
  interruption.remark = 'nothing was restored, unless all of it was; run it again';
  // Before a database is made for it.
  await readManifest(directory);
  return withOwner(context, async (url) => {
    refuseOnCitus(url, 'restore', 'restore elsewhere, and move payers here');
    const { onTable, stop } = tableProgress(context, 'restore');
    try {
      const { manifest, rows, migrated } = await restoreLedger(url, { directory, onTable });
      output.answer(
        {
          directory,
          written_at: manifest.written_at,
          rows,
          applied: migrated.applied,
          generation_raised: migrated.isGenerationRaised,
          warnings: migrated.warnings,
        },
        [
          `${formatCount(rows)} rows of ${formatInstant(manifest.written_at)} restored`,
          ...migrated.applied.map((name) => `applied ${name}`),
          ...(migrated.isGenerationRaised ? ['positions begin above those of the dump'] : []),
          ...migrated.warnings.map((warning) => `warning: ${warning}`),
          'next: `verify`, `verify --balances`',
        ].join('\n'),
      );
      return 0;
    } finally {
      stop();
    }
  });
}

function tableProgress({ output }: CommandContext, label: string) {
  let bar: ReturnType<typeof startProgress> | null = null;
  return {
    onTable: (_table: unknown, done: number, total: number) => {
      bar ??= startProgress(output, label, total, 'tables');
      bar.update(done);
    },
    stop: () => bar?.stop(),
  };
}
