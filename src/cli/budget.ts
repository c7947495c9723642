import { type Command, Option } from 'commander';
import {
  type Budget,
  type BudgetStore,
  changeBudget,
  listBudgets,
  removeBudget,
  setBudget,
} from '../budgets/budgets.js';
import { formatUsd } from '../money.js';
import type { Register, Runner } from './context.js';
import { type CommandDatabase, withDatabase, withMigratedDatabase } from './database.js';
import { alignTable, formatInstantOr } from './output.js';
import { type PayerOptions, payerOf } from './payer.js';

interface SetOptions extends PayerOptions {
  window: string;
  zone?: string;
  soft?: true;
  hard?: true;
}

export const registerBudget: Register = (budget, run) => {
  registerSet(budget, run);
  registerList(budget, run);
  budget
    .command('raise <budget> <usd>')
    .description('add to the limit for a time; 0 ends a raise')
    .option('--until <instant>', 'ISO 8601 with offset, like 2026-12-01T00:00:00Z; not for 0')
    .action((id: string, usd: string, options: { until?: string }) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const change = { raise_usd: usd, raise_until: options.until };
          const raised = await changeBudget(await storeOf(database), id, change);
          const limit = `${formatUsd(raised.limit_microdollars)} USD`;
          // A raise by 0 has an end, too.
          const isRaised = (raised.raise_microdollars ?? 0) > 0;
          const end = isRaised
            ? ` until ${formatInstantOr('-', raised.raise_until)}`
            : ', not raised';
          context.output.answer(raised, `${limit}${end}`);
          return 0;
        }),
      ),
    );
  budget
    .command('remove <budget>')
    .description('it limits nothing from now on')
    .action((id: string) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const removed = await removeBudget(await storeOf(database), id);
          context.output.answer(removed, `removed ${removed.id}`);
          return 0;
        }),
      ),
    );
};

function registerSet(budget: Command, run: Runner): void {
  budget
    .command('set <scope> <id> <usd>')
    .description('limit a user, organization, member, key or project; again changes the limit')
    .requiredOption('--window <window>', 'day, week, month (of the zone), or total (required)')
    .option('--zone <zone>', 'IANA time zone of the window (default: as it is, at first UTC)')
    .option('--soft', 'count and show it, and refuse nothing')
    .addOption(
      new Option('--hard', 'refuse what is beyond it (default: as it is, at first hard)').conflicts(
        'soft',
      ),
    )
    .option('--user <id>', 'who pays for a project')
    .option('--org <id>', 'or this organization; of a member, whose member it is')
    .addHelpText('after', '\nExample: microdollar budget set key <key-id> 20 --window month')
    .action((scope: string, id: string, usd: string, options: SetOptions) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const made = await setBudget(await storeOf(database), {
            scope,
            id,
            limit_usd: usd,
            window: options.window,
            time_zone: options.zone,
            mode: modeOf(options),
            kilo_user_id: options.user,
            organization_id: options.org,
            created_by: 'command line',
          });
          context.output.answer(made, toTable([made]));
          return 0;
        }),
      ),
    );
}

function modeOf({ soft, hard }: SetOptions): string | undefined {
  if (soft) return 'soft';
  return hard ? 'hard' : undefined;
}

function registerList(budget: Command, run: Runner): void {
  budget
    .command('list')
    .description(
      'budgets in force, what is spent, held and left of each; of up to a thousand payers',
    )
    .option('--user <id>', 'of this payer, with its balance')
    .option('--org <id>', 'or of this organization')
    .action((options: PayerOptions) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const budgets = await listBudgets(await storeOf(database), payerOf(options));
          context.output.answer(
            { budgets },
            budgets.length === 0 ? 'no budgets' : toTable(budgets),
          );
          return 0;
        }),
      ),
    );
}

async function storeOf(database: CommandDatabase): Promise<BudgetStore> {
  const { pool, budgetFolder: folder } = await database.ledger();
  return { pool, folder };
}

/** Who or what it limits; of a member, and of a project, of whom. */
function describeSubject(budget: Budget): string {
  const { project_id, api_key_id, kilo_user_id, organization_id } = budget;
  if (budget.scope === 'member') return `${kilo_user_id} in ${organization_id}`;
  if (project_id !== null) return `${project_id} of ${organization_id ?? kilo_user_id}`;
  return api_key_id ?? kilo_user_id ?? organization_id ?? '';
}

function toTable(budgets: readonly Budget[]): string {
  const rows = budgets.map((budget) => [
    budget.id,
    budget.is_balance ? 'balance' : `${budget.scope}${budget.is_hard ? '' : ' (soft)'}`,
    describeSubject(budget),
    budget.window,
    formatUsd(budget.limit_microdollars),
    formatUsd(budget.spent_microdollars),
    formatUsd(budget.held_microdollars),
    formatUsd(budget.available_microdollars),
    formatInstantOr('-', budget.resets_at),
  ]);
  const head = ['budget', 'scope', 'of', 'window', 'limit', 'spent', 'held', 'left', 'resets'];
  return alignTable([head, ...rows], [4, 5, 6, 7]);
}
