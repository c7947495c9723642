import { LedgerError } from '../errors.js';
import type { CommandContext, CommandStatus } from './context.js';
import { describeFailure, isContended, openServer } from './database.js';

/**
 * For commands that change the schema: as the role that owns it, which belongs to the database of
 * DATABASE_URL. The database is not migrated before.
 */
export async function withOwner(
  { environment, interruption }: CommandContext,
  work: (url: string) => Promise<CommandStatus>,
): Promise<CommandStatus> {
  const isOwn = environment.databaseUrl !== null;
  if (isOwn && environment.pooler !== null && environment.migrationUrl === null) {
    throw new LedgerError(
      'invalid_request',
      'this command holds a lock of its session, which a pooler in transaction mode hands to others; ' +
        'set MICRODOLLAR_MIGRATION_URL to the database itself',
      { details: { field: 'MICRODOLLAR_MIGRATION_URL' } },
    );
  }
  const server = await openServer(environment);
  const url = isOwn ? (environment.migrationUrl ?? server.url) : server.url;
  try {
    return await interruption.guard(() => work(url));
  } catch (error) {
    // A table in use says who holds it; DATABASE_URL is not to blame.
    throw isContended(error) ? error : describeFailure(error, url);
  } finally {
    await server.stop();
  }
}
