import { isDefaultSchema, schemaOf, withoutSchema } from '../db/ledgerSchema.js';
import { sqlStateOf } from '../db/sqlstate.js';
import { withClient } from '../db/withClient.js';
import { LedgerError } from '../errors.js';

/** Host, port, database and schema of a URL; never its password. */
export function placeOf(url: string): string {
  try {
    const { host, pathname } = new URL(url);
    const schema = schemaOf(url);
    return `${host}${pathname}${isDefaultSchema(schema) ? '' : `, schema ${schema}`}`;
  } catch {
    return 'DATABASE_URL';
  }
}

/** The URL of another database on the same server. */
export function urlOfDatabase(url: string, name: string): string {
  const other = new URL(withoutSchema(url));
  other.pathname = `/${encodeURIComponent(name)}`;
  return other.href;
}

export const COMMAND_CLIENT = {
  applicationName: 'microdollar command',
  connectTimeoutMs: 10_000,
};

/** Makes the database where there is none of the name. @throws LedgerError `unavailable` */
export async function ensureDatabase(url: string, name: string): Promise<void> {
  await withClient(url, COMMAND_CLIENT, async (client) => {
    const { rows } = await client.query('select from pg_database where datname = $1', [name]);
    if (rows.length > 0) return;
    try {
      await client.query(`create database ${client.escapeIdentifier(name)}`);
    } catch (error) {
      throw new LedgerError(
        'unavailable',
        `cannot create the database ${name} (${sqlStateOf(error)}): let a role that may do it ` +
          'create one, and name it with --database',
        { details: { field: 'database' }, cause: error },
      );
    }
  });
}
