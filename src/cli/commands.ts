import { type Command, Option } from 'commander';
import type { Register, Runner } from './context.js';

/** A command as the list of them names it; what makes it is loaded for a command line that names it. */
interface ListedCommand {
  /** Name and arguments; `[options]` where it has some. */
  term: string;
  description: string;
  load(): Promise<Register>;
}

const COMMANDS: readonly ListedCommand[] = [
  {
    term: 'start',
    description: 'migrate, then serve the API; prints the URL when ready',
    load: async () => (await import('./start.js')).registerStart,
  },
  {
    term: 'migrate [options]',
    description:
      'apply migrations, or adopt a database that has usage already; safe from several processes',
    load: async () => (await import('./migrate.js')).registerMigrate,
  },
  {
    term: 'user',
    description: 'create, list and delete users',
    load: async () => (await import('./user.js')).registerUser,
  },
  {
    term: 'org',
    description: 'create organizations, add members',
    load: async () => (await import('./org.js')).registerOrg,
  },
  {
    term: 'key',
    description: 'create, list and revoke API keys',
    load: async () => (await import('./key.js')).registerKey,
  },
  {
    term: 'credit',
    description: 'top up a user or an organization',
    load: async () => (await import('./credit.js')).registerCredit,
  },
  {
    term: 'budget',
    description: 'limits on what may be spent',
    load: async () => (await import('./budget.js')).registerBudget,
  },
  {
    term: 'alerts',
    description: 'tell a webhook when spend crosses a line',
    load: async () => (await import('./alerts.js')).registerAlerts,
  },
  {
    term: 'adjust [options] <usage-id> <usd>',
    description: 'refund (negative) or correct a request by a signed usage row that names it',
    load: async () => (await import('./adjust.js')).registerAdjust,
  },
  {
    term: 'import [options] <files...>',
    description: 'record usage from files; a second run, or a file that grew, records what is new',
    load: async () => (await import('./import.js')).registerImport,
  },
  {
    term: 'export [options]',
    description: 'usage rows, daily totals or credits from one snapshot, with a total',
    load: async () => (await import('./export.js')).registerExport,
  },
  {
    term: 'report [options]',
    description: 'spend by period and dimension: of a user, an organization, a member or a key',
    load: async () => (await import('./report.js')).registerReport,
  },
  {
    term: 'top [options]',
    description: 'who spends most: of all users and organizations, for up to a month',
    load: async () => (await import('./top.js')).registerTop,
  },
  {
    term: 'fold',
    description: 'drain pending rows into the counter rows now',
    load: async () => (await import('./fold.js')).registerFold,
  },
  {
    term: 'backfill [options]',
    description: 'build the rollup for history, beside live writers; a second run goes on',
    load: async () => (await import('./backfill.js')).registerBackfill,
  },
  {
    term: 'verify [options]',
    description: 'compare raw usage with what is reported; exit 1 on drift, changes nothing',
    load: async () => (await import('./verify.js')).registerVerify,
  },
  {
    term: 'repair [options]',
    description: 'fix exactly what verify finds; every correction is kept in rollup_repairs',
    load: async () => (await import('./repair.js')).registerRepair,
  },
  {
    term: 'archive [options]',
    description: 'write raw usage of proven days to files, then delete it; totals stay the same',
    load: async () => (await import('./archive.js')).registerArchive,
  },
  {
    term: 'dump <dir>',
    description: "write the ledger's tables to files, from one snapshot, beside writers",
    load: async () => (await import('./dump.js')).registerDump,
  },
  {
    term: 'restore <dir>',
    description: 'put a dump into a new database, all of it or nothing',
    load: async () => (await import('./dump.js')).registerRestore,
  },
  {
    term: 'psql-url [options]',
    description: 'the URL of the database, with its password: psql "$(microdollar psql-url)"',
    load: async () => (await import('./psqlUrl.js')).registerPsqlUrl,
  },
  {
    term: 'read-mode [options] [mode]',
    description: 'show or switch where reads come from; rollup only when the window is proven',
    load: async () => (await import('./readMode.js')).registerReadMode,
  },
  {
    term: 'shards',
    description: 'shards of MICRODOLLAR_SHARDS_FILE: how they are, and moves between them',
    load: async () => (await import('./shards.js')).registerShards,
  },
  {
    term: 'price-unpriced [options]',
    description: 'price usage that had no price when it came; a second run prices nothing twice',
    load: async () => (await import('./priceUnpriced.js')).registerPriceUnpriced,
  },
  {
    term: 'dead-letters [options]',
    description: 'usage that the database refused for good; exit 1 while there is any',
    load: async () => (await import('./deadLetters.js')).registerDeadLetters,
  },
  {
    term: 'status',
    description: 'one screen: read mode, coverage, drift, pending depth and age, sizes',
    load: async () => (await import('./status.js')).registerStatus,
  },
  {
    term: 'demo [options]',
    description:
      'fill the database with three months of plausible traffic, and serve it where no `start` does',
    load: async () => (await import('./demo.js')).registerDemo,
  },
  {
    term: 'bench [options]',
    description: 'the benchmark suite, on an embedded server of its own',
    load: async () => (await import('./bench.js')).registerBench,
  },
];

/**
 * Adds every command to the program, those whole that a word of the command line names: to load all is
 * most of what a short command would do. Without a command line, all are whole.
 */
export async function addCommands(
  program: Command,
  run: Runner,
  argv: readonly string[] | null,
): Promise<void> {
  for (const { term, description, load } of COMMANDS) {
    const nameAndArguments = term.replace(' [options]', '');
    const command = program.command(nameAndArguments).description(description);
    if (argv === null || argv.includes(command.name())) (await load())(command, run);
    // The list says that it has some; which is not asked for.
    else if (nameAndArguments !== term) command.addOption(new Option('--not-loaded'));
  }
}
