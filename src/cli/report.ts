import { Option } from 'commander';
import type pg from 'pg';
import { findApiKey, payerOfKey } from '../accounts/apiKeys.js';
import { requireAccounts } from '../accounts/requireAccounts.js';
import { todayIn } from '../days.js';
import { LedgerError } from '../errors.js';
import type { UsageReport, UsageReportQuery } from '../ledgerTypes.js';
import { GRAINS, GROUPS, MAX_TOP, readZone, TOP_METRICS } from '../report/usage/query.js';
import { toCsv } from '../report/usage/reportCsv.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { alignTable, formatAmount, formatCount, formatInstant } from './output.js';
import { describeGroup, type NamedRow, withNames } from './reportNames.js';
import { typedNumber } from './typedNumber.js';

interface ReportOptions {
  from?: string;
  until?: string;
  zone: string;
  grain: UsageReportQuery['grain'];
  by?: string;
  user?: string;
  org?: string;
  member?: string;
  key?: string;
  top: string;
  metric: UsageReportQuery['metric'];
  compare?: true;
  format: 'table' | 'csv';
}

const DEFAULT_DAYS = 30;
const DAY_MS = 86_400_000;

export const registerReport: Register = (command, run) => {
  command
    .option('--from <day>', 'first day of the zone (default: 30 days)')
    .option('--until <day>', 'last day of the zone, inclusive (default: today)')
    .option('--zone <zone>', 'IANA time zone', 'UTC')
    .addOption(new Option('--grain <grain>').choices(GRAINS).default('day'))
    .option(
      '--by <groups>',
      `up to two of ${Object.keys(GROUPS).join(', ')}, with a comma`,
      // Given twice it names both: the second must not silently replace the first.
      (groups: string, before?: string) => (before === undefined ? groups : `${before},${groups}`),
    )
    .option('--user <id>', 'personal usage of this user')
    .option('--org <id>', 'usage of this organization')
    .option('--member <id>', 'with --org: of this member alone')
    .option('--key <id>', 'what this key paid for alone')
    .option('--top <n>', `groups told apart, up to ${MAX_TOP}`, '10')
    .addOption(
      new Option('--metric <metric>', 'what the largest are by')
        .choices(TOP_METRICS)
        .default('cost'),
    )
    .option('--compare', 'the total of as many days before')
    .addOption(new Option('--format <format>').choices(['table', 'csv']).default('table'))
    .action((options: ReportOptions) => run((context) => report(context, options)));
};

async function report(context: CommandContext, options: ReportOptions): Promise<CommandStatus> {
  checkScope(options);
  const { output } = context;
  if (options.format === 'csv' && output.json) {
    throw invalid('format', '--format csv is no JSON; leave out one of --format and --json');
  }
  return withMigratedDatabase(context, async (database) => {
    const ledger = await database.ledger();
    const until = options.until ?? todayIn(readZone(options.zone));
    const answer = await ledger.getUsageReport({
      ...(await resolveAccounts(ledger.pool, options)),
      from: options.from ?? daysBefore(until, DEFAULT_DAYS - 1),
      until,
      zone: options.zone,
      grain: options.grain ?? 'day',
      by: (options.by?.split(',') ?? []) as NonNullable<UsageReportQuery['by']>,
      top: typedNumber(options.top),
      metric: options.metric ?? 'cost',
      compare: options.compare ?? false,
    });
    if (options.format === 'csv') {
      output.streams.stdout.write(toCsv(answer));
      return 0;
    }
    const named = await withNames(ledger.pool, answer);
    output.answer(named, describe(named));
    return 0;
  });
}

/** In the words of the command line. @throws LedgerError `invalid_request` */
function checkScope({ user, org, member, key }: ReportOptions): void {
  if (user === undefined && org === undefined && key === undefined) {
    throw invalid('user', 'say whose usage: --user <id>, --org <id> or --key <id>');
  }
  if (user !== undefined && org !== undefined) {
    throw invalid(
      'user',
      '--user is for personal usage; of an organization, name a member with --member <id>',
    );
  }
  if (member !== undefined && org === undefined) {
    throw invalid('member', '--member goes with --org');
  }
}

/**
 * Whose usage, in the report's words; who is named exists, told in the words of the command line. A key
 * beside a payer is not looked up: those of imports are no row.
 * @throws LedgerError `unknown_user`, `unknown_organization`, `not_found`, `invalid_request`
 */
async function resolveAccounts(
  pool: pg.Pool,
  { user, org, member, key }: ReportOptions,
): Promise<Pick<UsageReportQuery, 'kilo_user_id' | 'organization_id' | 'member' | 'api_key_id'>> {
  const named = omitAbsent({ kilo_user_id: user, organization_id: org, member });
  try {
    await requireAccounts(pool, named);
  } catch (error) {
    if (!(error instanceof LedgerError) || error.code !== 'unknown_user') throw error;
    const field = error.details.field === 'member' ? 'member' : 'user';
    throw new LedgerError('unknown_user', `--${field} names no user; \`user list\` has them`, {
      details: { field },
    });
  }
  if (key === undefined) return named;
  if (user !== undefined || org !== undefined) return { ...named, api_key_id: key };
  return { ...payerOfKey(await findApiKey(pool, key, 'key'), 'key'), api_key_id: key };
}

function invalid(field: string, problem: string): LedgerError {
  return new LedgerError('invalid_request', problem, { details: { field } });
}

function omitAbsent(fields: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fields).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

function daysBefore(day: string, days: number): string {
  const at = Date.parse(day);
  return Number.isNaN(at) ? day : new Date(at - days * DAY_MS).toISOString().slice(0, 10);
}

function describe(report: Omit<UsageReport, 'rows'> & { rows: NamedRow[] }): string {
  const columns = report.by.map((group) => GROUPS[group]);
  const sums = (row: UsageReport['total']) => [
    formatAmount(row.cost_microdollars),
    formatCount(row.requests),
    formatCount(row.errors),
    formatCount(row.input_tokens),
    formatCount(row.output_tokens),
  ];
  const blanks = columns.map(() => '');
  const table = alignTable(
    [
      ['start', ...report.by, 'cost', 'requests', 'errors', 'input tokens', 'output tokens'],
      ...report.rows.map((row) => [
        row.start,
        ...columns.map((column, index) =>
          row.other ? (index === 0 ? 'other' : '') : describeGroup(row, column),
        ),
        ...sums(row),
      ]),
      ['total', ...blanks, ...sums(report.total)],
      ...(report.previous ? [['before', ...blanks, ...sums(report.previous.total)]] : []),
    ],
    [1, 2, 3, 4, 5].map((index) => index + columns.length),
  );
  const { from, until, zone, source } = report;
  return `${table}\n${from} to ${until}, ${zone}; from ${source.mode} as of ${formatInstant(source.asOf)}`;
}
