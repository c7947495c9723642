import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import type { NamedPayer } from '../../ledgerTypes.js';
import type { RowTable } from '../../shards/rows.sql.js';

/** Where a command is run when it is given shards. */
export type Plan =
  /** On each shard, side by side, each with an answer of its own; in a search only where it is known. */
  | { on: 'each'; isSearch?: boolean }
  /** On the shard of this payer, with an answer as on one database. */
  | { on: 'payer'; payer: NamedPayer; isEverywhere?: boolean; set?: Record<string, string> }
  /** On the shard that has this row. */
  | { on: 'row'; table: RowTable; id: string }
  /** Once, through a ledger of all of them. */
  | { on: 'whole' }
  /** On the one that `--shard` names, and not without it. */
  | { on: 'named'; why: string; isBlank?: boolean }
  /** On the first: it refuses what it was given, as on one database. */
  | { on: 'home' }
  /** As it is: it works on no database, or looks after shards itself. */
  | { on: 'itself' }
  /** Not over shards. */
  | { on: 'none'; why: string };

type Options = Readonly<Record<string, unknown>>;
type Planner = (args: readonly string[], options: Options, command: Command) => Plan;

const EACH: Plan = { on: 'each' };
const HOME: Plan = { on: 'home' };

const text = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined;

const ofUser = (id: unknown): Plan =>
  text(id) === undefined ? HOME : { on: 'payer', payer: { kilo_user_id: text(id) } };
const ofOrganization = (id: unknown): Plan =>
  text(id) === undefined ? HOME : { on: 'payer', payer: { organization_id: text(id) } };
const ofRow = (table: RowTable, id: unknown): Plan =>
  text(id) === undefined ? HOME : { on: 'row', table, id: String(id) };

/** `--user` or `--org`; without either what is said of `otherwise`. */
const ofPayer =
  (otherwise: Plan): Planner =>
  (_args, { user, org }) =>
    text(org) === undefined && text(user) === undefined
      ? otherwise
      : text(org) === undefined
        ? ofUser(user)
        : ofOrganization(org);
const firstUser: Planner = ([id]) => ofUser(id);
const firstOrganization: Planner = ([id]) => ofOrganization(id);
const firstRow =
  (table: RowTable): Planner =>
  ([id]) =>
    ofRow(table, id);

/** A user of one shard acts for organizations of any; those that do not know the user have nothing. */
function searching(_args: readonly string[], { user }: Options): Plan {
  return { on: 'each', isSearch: user !== undefined };
}

/** Of each command, by its words. A test holds this to the commands that there are. */
export const PLANS: Readonly<Record<string, Plan | Planner>> = {
  start: { on: 'itself' },
  migrate: EACH,
  'user create': firstUser,
  'user delete': ([id]) => {
    const plan = ofUser(id);
    return plan.on === 'payer' ? { ...plan, isEverywhere: true } : plan;
  },
  'user list': EACH,
  'user show': firstUser,
  'org create': (_args, options) => {
    // Its id decides where it is.
    const id = text(options.id) ?? randomUUID();
    return { on: 'payer', payer: { organization_id: id }, set: { id } };
  },
  'org list': EACH,
  'org show': firstOrganization,
  'org members': firstOrganization,
  'org add-member': firstOrganization,
  'org remove-member': firstOrganization,
  'key create': ofPayer(HOME),
  'key list': (_args, { user, org }) =>
    text(org) === undefined ? searching([], { user }) : ofOrganization(org),
  'key revoke': firstRow('api_keys'),
  'credit add': ofPayer(HOME),
  'credit list': ofPayer(EACH),
  'credit expire': ofPayer(EACH),
  'budget set': planBudget,
  'budget list': ofPayer(EACH),
  'budget raise': firstRow('budgets'),
  'budget remove': firstRow('budgets'),
  'alerts set': (args, options, command) =>
    text(options.budget) === undefined
      ? ofPayer(HOME)(args, options, command)
      : ofRow('budgets', options.budget),
  'alerts list': ofPayer(EACH),
  'alerts delete': firstRow('usage_alerts'),
  'alerts webhook add': ofPayer({
    on: 'named',
    why: 'a webhook of everybody is told of the payers of its shard',
  }),
  'alerts webhook list': ofPayer(EACH),
  'alerts webhook rotate': firstRow('usage_alert_webhooks'),
  'alerts webhook delete': firstRow('usage_alert_webhooks'),
  'alerts webhook enable': firstRow('usage_alert_webhooks'),
  'alerts webhook test': firstRow('usage_alert_webhooks'),
  'alerts deliveries': ofPayer(EACH),
  'alerts replay': ([delivery], { webhook }) =>
    delivery === undefined
      ? ofRow('usage_alert_webhooks', webhook)
      : ofRow('usage_alert_deliveries', delivery),
  adjust: firstRow('microdollar_usage'),
  import: (_args, { raw, dryRun }) => {
    if (raw) return { on: 'none', why: '--raw asks no shard whose usage it is' };
    if (dryRun) return { on: 'named', why: '--dry-run looks into one database' };
    return { on: 'whole' };
  },
  export: (_args, { out, user, org }) => {
    if (text(out) === undefined)
      return { on: 'named', why: 'it writes a file for each, with --out' };
    return text(org) === undefined ? searching([], { user }) : ofOrganization(org);
  },
  report: (args, options, command) =>
    text(options.user) === undefined && text(options.org) === undefined
      ? ofRow('api_keys', options.key)
      : ofPayer(HOME)(args, options, command),
  top: EACH,
  fold: EACH,
  backfill: EACH,
  verify: searching,
  repair: searching,
  archive: EACH,
  'archive read': { on: 'named', why: 'it reads into a database beside that of one' },
  dump: EACH,
  restore: { on: 'named', why: 'a dump is that of one', isBlank: true },
  'psql-url': { on: 'named', why: 'each has its own' },
  'read-mode': EACH,
  'price-unpriced': EACH,
  'dead-letters': (_args, { retry }) => (retry ? { on: 'whole' } : { on: 'itself' }),
  status: EACH,
  'shards status': { on: 'itself' },
  'shards move': { on: 'itself' },
  'shards resume': { on: 'itself' },
  'shards add': { on: 'itself' },
  demo: { on: 'none', why: 'it is for a database to try things with' },
  bench: { on: 'itself' },
};

function planBudget([scope, id]: readonly string[], options: Options, command: Command): Plan {
  if (scope === 'user') return ofUser(id);
  if (scope === 'organization') return ofOrganization(id);
  if (scope === 'key') return ofRow('api_keys', id);
  return ofPayer(HOME)([], options, command);
}

/** `alerts webhook add` of that command. */
export function wordsOf(command: Command): string {
  const words: string[] = [];
  for (let each: Command | null = command; each?.parent; each = each.parent) {
    words.unshift(each.name());
  }
  return words.join(' ');
}

/** Where this command, as it was called, is run. */
export function planOf(command: Command): Plan {
  const plan = PLANS[wordsOf(command)] ?? { on: 'none' as const, why: 'it knows one database' };
  return typeof plan === 'function' ? plan(command.args, command.opts(), command) : plan;
}

/** Paths are of one shard each: a directory in them, or of a file a name before its extension. */
const PATHS: Readonly<Record<string, readonly string[]>> = {
  archive: ['out'],
  export: ['archive', 'out'],
  dump: ['directory'],
  restore: ['directory'],
  'archive read': ['directory'],
};

/** Makes the paths that a command was given those of one shard. */
export function ofShardPaths(command: Command, shard: string): void {
  const words = wordsOf(command);
  for (const name of PATHS[words] ?? []) {
    if (name === 'directory') {
      command.processedArgs[0] = `${command.args[0]}/${shard}`;
      continue;
    }
    const path = text(command.opts()[name]);
    if (path === undefined) continue;
    command.setOptionValue(name, toPath(path, shard, words === 'export' && name === 'out'));
  }
}

/** `usage.csv` of shard b is `usage.b.csv`. */
function toPath(path: string, shard: string, isFile: boolean): string {
  if (!isFile) return `${path}/${shard}`;
  const [, stem = path, extension = ''] = /^(.*[^/])(\.[^./]+)$/.exec(path) ?? [];
  return `${stem}.${shard}${extension}`;
}
