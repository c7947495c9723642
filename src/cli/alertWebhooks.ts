import type { Command } from 'commander';
import {
  addWebhook,
  enableWebhook,
  listWebhooks,
  removeWebhook,
  rotateWebhookSecret,
  testWebhook,
  type Webhook,
} from '../alerts/webhooks.js';
import type { CommandContext, CommandStatus, Runner } from './context.js';
import { type CommandDatabase, withDatabase, withMigratedDatabase } from './database.js';
import { alignTable } from './output.js';
import { knownPayerOf, type PayerOptions } from './payer.js';
import { typedNumber } from './typedNumber.js';

/** `alerts webhook`: where alerts are sent. */
export function registerWebhooks(alerts: Command, run: Runner): void {
  const webhook = alerts.command('webhook').description('where alerts are sent, signed');
  webhook
    .command('add <url>')
    .description('prints its secret, once')
    .option('--user <id>', 'alerts of this user')
    .option('--org <id>', 'or of this organization (default: of everybody)')
    .action((url: string, options: PayerOptions) => run((context) => add(context, url, options)));
  webhook
    .command('list')
    .description('webhooks, never with their secrets')
    .option('--user <id>', 'of this user')
    .option('--org <id>', 'or of this organization')
    .action((options: PayerOptions) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const pool = database.pool();
          const rows = await listWebhooks(pool, await knownPayerOf(pool, options));
          const text = rows.length === 0 ? 'no webhooks' : toTable(rows);
          context.output.answer({ webhooks: rows }, text);
          return 0;
        }),
      ),
    );
  webhook
    .command('rotate <webhook>')
    .description('print a new secret, once; the old one signs as well for a time')
    .option('--overlap-hours <n>', 'for so long (default: 24)')
    .action((id: string, options: { overlapHours?: string }) =>
      run((context) => rotate(context, id, options.overlapHours)),
    );
  onOne(
    webhook,
    run,
    'delete',
    'it gets nothing more; its secret is forgotten',
    async (database, id) => {
      const removed = await removeWebhook(database.pool(), id);
      return { document: removed, text: `deleted ${removed.id}` };
    },
  );
  onOne(webhook, run, 'enable', 'send again to one that answered 410', async (database, id) => {
    const enabled = await enableWebhook(database.pool(), id);
    return { document: enabled, text: toTable([enabled]) };
  });
  onOne(webhook, run, 'test', 'send one event of type webhook.test', async (database, id) => {
    const { alertStore } = await database.ledger();
    const sent = await testWebhook(alertStore, id);
    const text = sent.error ?? `answered ${sent.status}`;
    return { document: sent, text, status: sent.delivered ? 0 : 1 };
  });
}

interface Answer {
  document: unknown;
  text: string;
  status?: CommandStatus;
}

/** A command on one webhook, by its id. */
function onOne(
  webhook: Command,
  run: Runner,
  name: string,
  description: string,
  work: (database: CommandDatabase, id: string) => Promise<Answer>,
): void {
  webhook
    .command(`${name} <webhook>`)
    .description(description)
    .action((id: string) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const { document, text, status = 0 } = await work(database, id);
          context.output.answer(document, text);
          return status;
        }),
      ),
    );
}

function add(context: CommandContext, url: string, { user, org }: PayerOptions) {
  return withDatabase(context, async (database) => {
    const { alertStore } = await database.ledger();
    const added = await addWebhook(alertStore, {
      url,
      kilo_user_id: user,
      organization_id: org,
      created_by: 'command line',
    });
    context.output.answer(added, `${toTable([added])}\nsecret, shown this once: ${added.secret}`);
    return 0;
  });
}

function rotate(context: CommandContext, id: string, hours: string | undefined) {
  return withDatabase(context, async (database) => {
    const overlap = hours === undefined ? undefined : typedNumber(hours);
    const rotated = await rotateWebhookSecret(database.pool(), id, overlap);
    const until = rotated.previous_secret_until;
    const old = until === null ? 'the old one signs no more' : `the old one signs until ${until}`;
    context.output.answer(rotated, `secret, shown this once: ${rotated.secret}\n${old}`);
    return 0;
  });
}

function toTable(webhooks: readonly Webhook[]): string {
  const rows = webhooks.map((webhook) => [
    webhook.id,
    webhook.kilo_user_id ?? webhook.organization_id ?? 'everybody',
    webhook.url,
    describeState(webhook),
  ]);
  return alignTable([['webhook', 'of', 'url', 'state'], ...rows]);
}

function describeState(webhook: Webhook): string {
  if (webhook.disabled_at !== null) return `disabled: ${webhook.disabled_reason}`;
  return webhook.failing_since === null ? 'in use' : `failing since ${webhook.failing_since}`;
}
