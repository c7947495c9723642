import type { Command } from 'commander';
import type { Pool } from 'pg';
import {
  type ApiKey,
  listApiKeys,
  listKeysOf,
  MAX_KEYS_LISTED,
  revokeApiKey,
} from '../accounts/apiKeys.js';
import { SCOPES } from '../accounts/scopes.js';
import { LedgerError } from '../errors.js';
import { createKey } from '../shards/accounts.js';
import type { CommandContext, CommandStatus, Register, Runner } from './context.js';
import { withDatabase, withMigratedDatabase } from './database.js';
import { alignTable, formatInstantOr, shorten } from './output.js';
import { knownPayerOf, type PayerOptions } from './payer.js';

const DEFAULT_SCOPES = ['usage:write', 'usage:read', 'gateway'];

interface CreateOptions {
  user?: string;
  service?: true;
  name?: string;
  org?: string;
  scope?: string[];
}

export const registerKey: Register = (key, run) => {
  key
    .command('create')
    .description('create a key; it is printed once')
    .option('--user <id>', 'the user it acts for')
    .option('--service', 'a service key, which acts for any user')
    .option('--name <name>', 'what to call it')
    .option(
      '--org <id>',
      'organization that its gateway requests are billed to; of a service key the only one it acts for',
    )
    .option(
      '--scope <scope>',
      `of ${SCOPES.join(', ')}; may be repeated (default: ${DEFAULT_SCOPES})`,
      (value: string, scopes: string[] | undefined) => [...(scopes ?? []), ...value.split(',')],
    )
    .action((options: CreateOptions) => run((context) => create(context, options)));
  registerKeyList(key, run);
  key
    .command('revoke <id>')
    .description('revoke a key for good; services refuse it within two seconds')
    .action((id: string) =>
      run((context) =>
        withDatabase(context, async (database) => {
          await revokeApiKey(database.pool(), id);
          context.output.answer({ id, revoked: true }, `revoked key ${id}`);
          return 0;
        }),
      ),
    );
};

function create(context: CommandContext, options: CreateOptions): Promise<CommandStatus> {
  if ((options.user === undefined) === (options.service === undefined)) {
    throw new LedgerError(
      'invalid_request',
      'a key is of one user or of a service: give either --user <id> or --service',
    );
  }
  return withDatabase(context, async (database) => {
    const created = await createKey(await database.accounts(), {
      ...(options.user === undefined ? {} : { kilo_user_id: options.user }),
      ...(options.org === undefined ? {} : { organization_id: options.org }),
      ...(options.name === undefined ? {} : { name: options.name }),
      scopes: options.scope ?? DEFAULT_SCOPES,
    });
    context.output.answer(created, created.key);
    context.output.note(`key ${created.id}; it is shown this once`);
    return 0;
  });
}

function registerKeyList(key: Command, run: Runner): void {
  key
    .command('list')
    .description('list keys; never the secrets')
    .option('--user <id>', 'of this user')
    .option('--org <id>', 'or billed to this organization')
    .action((options: PayerOptions) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const keys = await listKeys(database.pool(), options);
          // Ids are long: of whom all pay for themselves there is no such column.
          const isBilled = keys.some((one) => one.organization_id !== null);
          const rows = keys.map((one) => [
            one.id,
            one.key_prefix,
            shorten(one.kilo_user_id ?? '(service)'),
            ...(isBilled ? [one.organization_id ?? ''] : []),
            one.scopes.join(','),
            one.revoked_at === null ? 'active' : 'revoked',
            formatInstantOr('never', one.last_used_at),
            shorten(one.name ?? ''),
          ]);
          const payer = isBilled ? ['organization'] : [];
          const state = ['scopes', 'state', 'last used', 'name'];
          const table = alignTable([['id', 'key', 'user', ...payer, ...state], ...rows]);
          context.output.answer({ keys }, rows.length === 0 ? 'no keys' : table);
          return 0;
        }),
      ),
    );
}

async function listKeys(pool: Pool, options: PayerOptions): Promise<ApiKey[]> {
  const payer = await knownPayerOf(pool, options);
  if (payer === null) return await listApiKeys(pool);
  const of = payer.scope === 'user' ? { kiloUserId: payer.id } : { organizationId: payer.id };
  return await listKeysOf(pool, of, MAX_KEYS_LISTED);
}
