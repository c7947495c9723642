import type { Command } from 'commander';
import { addCredit } from '../accounts/credits.js';
import { invalidField } from '../accounts/fields.js';
import { type Expired, GrantExpirer } from '../accounts/grants/expirer.js';
import { type ListedCredit, listCredits, listPayerCredits } from '../accounts/listCredits.js';
import { readPayer } from '../budgets/budgets.js';
import { addDays, isDay } from '../days.js';
import { LedgerError } from '../errors.js';
import { parseInstant } from '../instant.js';
import { formatUsd } from '../money.js';
import { scopeNamed } from '../schema/unsettled.js';
import type { CommandContext, Register, Runner } from './context.js';
import { type CommandDatabase, withDatabase, withMigratedDatabase } from './database.js';
import { alignTable, answerList, formatAmount, formatInstant, formatInstantOr } from './output.js';
import { typedNumber } from './typedNumber.js';

interface PayerOptions {
  user?: string;
  org?: string;
}

interface AddOptions extends PayerOptions {
  id?: string;
  note?: string;
  expires?: string;
  priority?: string;
}

interface ExpireOptions extends PayerOptions {
  dryRun?: true;
}

export const registerCredit: Register = (credit, run) => {
  registerAdd(credit, run);
  registerList(credit, run);
  registerExpire(credit, run);
};

function registerAdd(credit: Command, run: Runner): void {
  credit
    .command('add <usd>')
    .description('add credit, in USD; a negative amount takes back')
    .option('--user <id>', 'this user')
    .option('--org <id>', 'or this organization')
    .option('--id <uuid>', 'name this credit: the same id again is added once')
    .option('--expires <date>', 'last UTC day on which it is used, or an instant with offset')
    .option('--priority <number>', 'of credits that expire together the lower is used first')
    .option('--note <text>', 'why')
    .action((usd: string, options: AddOptions) =>
      run((context) => {
        const { user, org, id, note } = options;
        if ((user === undefined) === (org === undefined)) {
          throw new LedgerError('invalid_request', 'name one payer: --user <id> or --org <id>');
        }
        return withDatabase(context, async (database) => {
          const payer = user === undefined ? { organization_id: org } : { kilo_user_id: user };
          const credit = await addCredit(database.pool(), {
            ...payer,
            usd,
            id,
            description: note,
            expires_at: toExpiry(options.expires),
            priority: options.priority === undefined ? undefined : typedNumber(options.priority),
          });
          // What was added: the argument may have been rounded.
          const amount = formatUsd(credit.amount_microdollars);
          const total = formatUsd(credit.total_microdollars_acquired);
          const said = credit.status === 'duplicate' ? 'added before:' : 'added';
          const until =
            credit.expires_at === null ? '' : `, until ${formatInstant(credit.expires_at)}`;
          context.output.answer(
            credit,
            `${said} ${amount} USD to ${user ?? org}${until}; ${total} USD in all`,
          );
          return 0;
        });
      }),
    );
}

/** A day is used to its end. */
function toExpiry(expires: string | undefined): string | undefined {
  if (isDay(expires)) return `${addDays(expires, 1)}T00:00:00Z`;
  if (expires === undefined || parseInstant(expires) !== null) return expires;
  throw invalidField(
    'expires_at',
    'must be a UTC day like 2026-12-31, or an ISO 8601 instant with an offset',
  );
}

function registerList(credit: Command, run: Runner): void {
  credit
    .command('list')
    .description('top-ups and expiries, newest first, in USD; of one payer with what is left')
    .option('--user <id>', 'of this user')
    .option('--org <id>', 'or of this organization')
    .action((options: PayerOptions) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const isOfOne = options.user !== undefined || options.org !== undefined;
          if (isOfOne) await listOfPayer(context, database, options);
          else await listOfAll(context, database);
          return 0;
        }),
      ),
    );
}

const describe = (row: ListedCredit): string =>
  row.kind === 'credit' ? (row.description ?? '') : `${row.kind} of ${row.grant_id}`;

async function listOfAll({ output }: CommandContext, database: CommandDatabase): Promise<void> {
  answerList(output, 'credits', await listCredits(database.pool()), {
    head: ['id', 'at', 'payer', 'usd', 'expires', 'note'],
    right: [3],
    cells: (row) => [
      row.id,
      formatInstant(row.created_at),
      row.kilo_user_id ?? row.organization_id ?? '',
      formatUsd(row.amount_microdollars),
      formatInstantOr('-', row.expires_at),
      describe(row),
    ],
  });
}

async function listOfPayer(
  { output }: CommandContext,
  database: CommandDatabase,
  { user, org }: PayerOptions,
): Promise<void> {
  const payer = { kilo_user_id: user, organization_id: org };
  answerList(output, 'credits', await listPayerCredits(database.pool(), payer), {
    head: ['id', 'at', 'usd', 'left', 'expires', 'priority', 'status', 'note'],
    right: [2, 3, 5],
    cells: (row) => [
      row.id,
      formatInstant(row.created_at),
      formatUsd(row.amount_microdollars),
      row.grant === null ? '-' : formatUsd(row.grant.left_microdollars),
      formatInstantOr('-', row.expires_at),
      String(row.priority),
      row.grant?.status ?? '-',
      describe(row),
    ],
  });
}

function registerExpire(credit: Command, run: Runner): void {
  credit
    .command('expire')
    .description('take what has expired out of balances now; a service does it by itself')
    .option('--user <id>', 'of this user')
    .option('--org <id>', 'or of this organization')
    .option('--dry-run', 'show what would expire, change nothing')
    .action((options: ExpireOptions) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const { expired, busy } = await expire(database, options);
          const document = { dry_run: options.dryRun ?? false, expired, busy };
          context.output.answer(document, toText(expired, busy, options.dryRun ?? false));
          return busy > 0 ? 1 : 0;
        }),
      ),
    );
}

/** Of one look in a dry run, which changes nothing that the next could go on from. */
const MAX_PREVIEWED = 1_000;

async function expire(
  database: CommandDatabase,
  { user, org, dryRun }: ExpireOptions,
): Promise<{ expired: readonly Expired[]; busy: number }> {
  const { pool, viaPooler, budgetFolder } = await database.ledger();
  const failures: unknown[] = [];
  const expirer = new GrantExpirer({
    pool,
    named: !viaPooler,
    withdrawals: budgetFolder,
    onError: (error) => failures.push(error),
  });
  if (user !== undefined || org !== undefined) {
    const payer = readPayer(user, org);
    const scope = scopeNamed(payer.scope);
    if (dryRun) return { expired: await expirer.preview(scope, payer.id), busy: 0 };
    const result = await expirer.expirePayer(scope, payer.id);
    return result === 'busy' ? { expired: [], busy: 1 } : { expired: result, busy: 0 };
  }
  if (dryRun) return { expired: await expirer.previewDue(MAX_PREVIEWED), busy: 0 };
  const expired: Expired[] = [];
  let busy = 0;
  for (let more = true; more; ) {
    const look = await expirer.expireDue();
    if (failures.length > 0) throw failures[0];
    expired.push(...look.expired);
    busy += look.busy;
    more = look.hasMore && look.busy === 0;
  }
  return { expired, busy };
}

function toText(expired: readonly Expired[], busy: number, isDryRun: boolean): string {
  const rows = expired.map((row) => [
    row.grant_id,
    row.payer_id,
    formatAmount(row.expired_microdollars),
  ]);
  const left = busy > 0 ? [`${busy} payers are held by others: run it again`] : [];
  if (rows.length === 0)
    return [isDryRun ? 'nothing would expire' : 'nothing expired', ...left].join('\n');
  const head = ['grant', 'payer', isDryRun ? 'would expire' : 'expired'];
  return [alignTable([head, ...rows], [2]), ...left].join('\n');
}
