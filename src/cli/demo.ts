import { Command } from 'commander';
import type { FillReport } from '../demo/fill.js';
import { fillDemo } from '../demo/fill.js';
import { type DemoKey, obtainDemoKeys } from '../demo/keys.js';
import { DEMO_USERS_DEFAULT, DEMO_USERS_MAX, demoUsers } from '../demo/people.js';
import { LedgerError } from '../errors.js';
import { verifyRollup } from '../rollup/verify.js';
import { DAILY_ROLLUP } from '../schema/rollups.js';
import { obtainAdminKey } from './adminKey.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { type CommandDatabase, withDatabase } from './database.js';
import { requireDataDir } from './dataDir.js';
import { alignTable, formatAmount, formatCount, Output } from './output.js';
import { startProgress } from './progress.js';
import { readRuntime } from './runtimeFile.js';
import { registerStart } from './start.js';
import { wholeNumber } from './typedNumber.js';

interface DemoOptions {
  days: number;
  users: number;
  yes?: true;
  serve: boolean;
}

const DEFAULT_DAYS = 92;
const MAX_DAYS = 1_000;
/** Users whose keys are shown. */
const SHOWN_USERS = 2;

export const registerDemo: Register = (command, run) => {
  command
    .option('--days <n>', 'UTC days, today included', wholeNumber(1, MAX_DAYS), DEFAULT_DAYS)
    .option('--users <n>', 'users', wholeNumber(1, DEMO_USERS_MAX), DEMO_USERS_DEFAULT)
    .option('--yes', 'also into a database that has users of its own')
    .option('--no-serve', 'only fill')
    .action((options: DemoOptions) =>
      run(async (context) => {
        const filled = await fill(context, options);
        const { environment, output } = context;
        const running =
          environment.databaseUrl === null ? await readRuntime(environment.dataDir) : null;
        if (options.serve && running === null) return serve(context, filled);
        const url = running?.serverUrl ?? null;
        output.answer(
          url === null ? filled.document : { ...filled.document, url },
          url === null ? filled.text : `${filled.text}\nopen ${url} in a browser`,
        );
        return filled.document.drift_keys === 0 ? 0 : 1;
      }),
    );
};

interface Filled {
  document: Record<string, unknown> & { drift_keys: number };
  text: string;
}

async function fill(context: CommandContext, options: DemoOptions): Promise<Filled> {
  const { environment, output } = context;
  await requireDataDir(environment.dataDir);
  let filled: Filled | null = null;
  await withDatabase(context, async (database) => {
    if (options.yes !== true) await refuseForeignUsers(database);
    const startedAt = performance.now();
    const progress = startProgress(output, 'filling', options.days);
    const ledger = await database.ledger();
    let report: FillReport;
    try {
      report = await fillDemo(ledger, { ...options, onDay: (done) => progress.update(done) });
    } finally {
      progress.stop();
    }
    const { from, until } = report;
    const { url, viaPooler } = database;
    const proof = await verifyRollup({ url, viaPooler, rollup: DAILY_ROLLUP, from, until });
    const userIds = demoUsers(Math.min(SHOWN_USERS, options.users)).map(({ id }) => id);
    const keys = await obtainDemoKeys(database.pool(), environment.dataDir, userIds);
    const adminKey = await obtainAdminKey(environment);
    const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
    filled = {
      document: {
        users: report.users,
        organizations: report.organizations,
        from,
        until,
        recorded: report.recorded,
        duplicates: report.duplicates,
        cost_microdollars: report.costMicrodollars,
        drift_keys: proof.driftKeys,
        seconds,
        keys,
        admin_key: adminKey.key,
      },
      text: describe(report, keys, adminKey.key, seconds),
    };
    return 0;
  });
  if (filled === null) throw new LedgerError('internal', 'the demo was not filled');
  return filled;
}

/** Made-up traffic does not belong among real accounts. */
async function refuseForeignUsers(database: CommandDatabase): Promise<void> {
  const { rows } = await database.pool().query<{ has_users: boolean }>(
    `/* demo.foreignUsers */
     select exists (
       select from kilocode_users where not starts_with(id, 'demo-')
     ) as has_users`,
  );
  if (!rows[0]?.has_users) return;
  throw new LedgerError(
    'already_exists',
    'this database has users of its own; name an empty one, or another MICRODOLLAR_DATA_DIR, or ' +
      'add --yes to put the demo beside them',
  );
}

/** What was filled, and what `start` says when it is ready, as one answer. */
class ServingOutput extends Output {
  readonly #filled: Filled;

  constructor(output: Output, filled: Filled) {
    super(output.json, output.streams);
    this.#filled = filled;
  }

  override answer(document: Record<string, unknown>, text: string): void {
    super.answer({ ...this.#filled.document, ...document }, `${this.#filled.text}\n${text}`);
  }
}

/** The `start` command, on the database that was filled. */
async function serve(context: CommandContext, filled: Filled): Promise<CommandStatus> {
  let status: CommandStatus = 0;
  const program = new Command();
  registerStart(program.command('start'), async (work) => {
    status = await work({ ...context, output: new ServingOutput(context.output, filled) });
  });
  await program.parseAsync(['start'], { from: 'user' });
  return status;
}

function describe(
  report: FillReport,
  keys: readonly DemoKey[],
  adminKey: string,
  seconds: number,
): string {
  const { recorded, duplicates } = report;
  const what =
    recorded === 0
      ? `nothing to add: ${formatCount(duplicates)} events were there already`
      : `recorded ${formatCount(recorded)} events, ${formatAmount(report.costMicrodollars)}`;
  return [
    `${what} (${report.from} to ${report.until} UTC, ${seconds} s)`,
    'keys to sign in with:',
    alignTable([
      ...keys.map(({ kilo_user_id, key }) => [`  ${kilo_user_id}`, key]),
      ['  operations (admin)', adminKey],
    ]),
  ].join('\n');
}
