import type { Command } from 'commander';
import { type Alert, listAlerts, payerOfAlert, removeAlert, setAlert } from '../alerts/alerts.js';
import {
  type Delivery,
  listDeliveries,
  replayDelivery,
  replayWebhook,
} from '../alerts/deliveries.js';
import { hasWebhook } from '../alerts/webhooks.js';
import { LedgerError } from '../errors.js';
import { formatUsd } from '../money.js';
import { registerWebhooks } from './alertWebhooks.js';
import type { CommandContext, CommandStatus, Register, Runner } from './context.js';
import { withDatabase, withMigratedDatabase } from './database.js';
import { alignTable, formatCount, formatInstant, formatInstantOr, toShellWord } from './output.js';
import { knownPayerOf, type PayerOptions } from './payer.js';
import { typedNumber } from './typedNumber.js';

interface SetOptions extends PayerOptions {
  budget?: string;
  at?: string;
  below?: string;
  floor?: string;
}

export const registerAlerts: Register = (alerts, run) => {
  registerSet(alerts, run);
  alerts
    .command('list')
    .description('alerts that are set')
    .option('--user <id>', 'of this user')
    .option('--org <id>', 'or of this organization')
    .action((options: PayerOptions) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const pool = database.pool();
          const rows = await listAlerts(pool, await knownPayerOf(pool, options));
          context.output.answer({ alerts: rows }, rows.length === 0 ? 'no alerts' : toTable(rows));
          return 0;
        }),
      ),
    );
  alerts
    .command('delete <alert>')
    .description('it tells nothing more')
    .action((id: string) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const removed = await removeAlert(database.pool(), id);
          context.output.answer(removed, `deleted ${removed.id}`);
          return 0;
        }),
      ),
    );
  registerWebhooks(alerts, run);
  registerDeliveries(alerts, run);
};

function registerSet(alerts: Command, run: Runner): void {
  alerts
    .command('set <kind>')
    .description(
      'budget: percent of its limit; balance: what is left; spend: an hour and the usual',
    )
    .option('--budget <id>', 'the budget that is watched')
    .option('--user <id>', 'the user whose balance or spend is')
    .option('--org <id>', 'or this organization')
    .option('--at <percents>', 'of the limit (default: 50,80,100), or of the usual hour (300)')
    .option('--below <usd>', 'of a balance: when less is left')
    .option('--floor <usd>', 'of spend: an hour with less is never told (default: 1)')
    .addHelpText('after', '\nExample: microdollar alerts set balance --user ada --below 5')
    .action((kind: string, options: SetOptions) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const { alertStore } = await database.ledger();
          const set = await setAlert(alertStore, {
            kind,
            budget_id: options.budget,
            kilo_user_id: options.user,
            organization_id: options.org,
            thresholds_percent: options.at === undefined ? null : readPercents(options.at),
            below_usd: options.below,
            floor_usd: options.floor,
            created_by: 'command line',
          });
          const payer = payerOfAlert(set);
          const has_webhook = await hasWebhook(database.pool(), payer);
          context.output.answer({ ...set, has_webhook }, toTable([set]));
          if (!has_webhook) {
            const of = `--${payer.scope === 'user' ? 'user' : 'org'} ${toShellWord(payer.id)}`;
            context.output.note(
              `no webhook is in use that would be told; \`alerts webhook add <url> ${of}\` adds one`,
            );
          }
          return 0;
        }),
      ),
    );
}

function registerDeliveries(alerts: Command, run: Runner): void {
  alerts
    .command('deliveries')
    .description('what was told, and what became of it; the newest first')
    .option('--user <id>', 'of this user')
    .option('--org <id>', 'or of this organization')
    .option('--state <state>', 'pending, delivered or dead')
    .option('--limit <n>', 'at most so many (default: 100)')
    .action((options: PayerOptions & { state?: string; limit?: string }) =>
      run((context) => showDeliveries(context, options)),
    );
  alerts
    .command('replay [delivery]')
    .description('try a dead letter again, or with --webhook all of a webhook')
    .option('--webhook <id>', 'every dead letter of this webhook')
    .action((delivery: string | undefined, options: { webhook?: string }) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const replayed = await replay(database.pool(), delivery, options.webhook);
          context.output.answer(replayed, `${formatCount(replayed.replayed)} to be tried again`);
          return 0;
        }),
      ),
    );
}

function replay(
  pool: Parameters<typeof replayDelivery>[0],
  delivery: string | undefined,
  webhook: string | undefined,
): Promise<{ replayed: number }> {
  if (delivery !== undefined && webhook === undefined) return replayDelivery(pool, delivery);
  if (delivery === undefined && webhook !== undefined) return replayWebhook(pool, webhook);
  throw new LedgerError('invalid_request', 'name a delivery, or --webhook, not both');
}

function showDeliveries(
  context: CommandContext,
  options: PayerOptions & { state?: string; limit?: string },
): Promise<CommandStatus> {
  return withMigratedDatabase(context, async (database) => {
    const pool = database.pool();
    const rows = await listDeliveries(pool, {
      payer: await knownPayerOf(pool, options),
      state: options.state,
      limit: options.limit === undefined ? null : typedNumber(options.limit),
      withShared: true,
    });
    const text = rows.length === 0 ? 'no deliveries' : toDeliveryTable(rows);
    context.output.answer({ deliveries: rows }, text);
    return 0;
  });
}

function readPercents(text: string): number[] {
  return text.split(',').map((each) => (/^\s*\d+\s*$/.test(each) ? Number(each) : Number.NaN));
}

function toTable(alerts: readonly Alert[]): string {
  const rows = alerts.map((alert) => [
    alert.id,
    alert.kind,
    alert.budget_id ?? alert.kilo_user_id ?? alert.organization_id ?? '',
    describeLine(alert),
    formatInstantOr('never', alert.last_event_at),
  ]);
  return alignTable([['alert', 'kind', 'of', 'told', 'last told'], ...rows]);
}

function describeLine(alert: Alert): string {
  const percents = (alert.thresholds_percent ?? []).map((each) => `${each}%`).join(', ');
  if (alert.kind === 'balance') return `below ${formatUsd(alert.below_microdollars ?? 0)} USD`;
  if (alert.kind === 'budget') return `at ${percents}`;
  return `at ${percents} of the usual, from ${formatUsd(alert.floor_microdollars ?? 0)} USD`;
}

function toDeliveryTable(deliveries: readonly Delivery[]): string {
  const rows = deliveries.map((delivery) => [
    delivery.id ?? '-',
    formatInstant(delivery.created_at),
    delivery.type,
    delivery.kilo_user_id ?? delivery.organization_id ?? '',
    delivery.kind === 'balance' ? `${formatUsd(delivery.threshold)} USD` : `${delivery.threshold}%`,
    delivery.state ?? 'no webhook',
    String(delivery.attempts),
    delivery.last_error ?? (delivery.last_status === null ? '' : `HTTP ${delivery.last_status}`),
  ]);
  const head = ['delivery', 'at', 'type', 'of', 'line', 'state', 'tries', 'last answer'];
  return alignTable([head, ...rows], [6]);
}
