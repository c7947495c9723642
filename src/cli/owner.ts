import { LedgerError } from '../errors.js';
import type { CommandContext, CommandStatus } from './context.js';
import { describeFailure, isContended, openServer, urlsFrom } from './database.js';

/**
 * For commands that change the schema: as the role that owns it, which belongs to the database of
 * DATABASE_URL. The database is not migrated before.
 * @param isMade false for a look, which makes no cluster
 */
export async function withOwner(
  { environment, interruption, shard }: CommandContext,
  work: (url: string) => Promise<CommandStatus>,
  { isMade = true } = {},
): Promise<CommandStatus> {
  const isOwn = environment.databaseUrl !== null;
  if (isOwn && environment.pooler !== null && environment.migrationUrl === null) {
    throw new LedgerError(
      'invalid_request',
      'this command holds a lock of its session, which a pooler in transaction mode hands to others; ' +
        (shard === null
          ? 'set MICRODOLLAR_MIGRATION_URL to the database itself'
          : 'unset MICRODOLLAR_POOLER, with a shards file of the databases themselves'),
      { details: { field: shard === null ? 'MICRODOLLAR_MIGRATION_URL' : 'MICRODOLLAR_POOLER' } },
    );
  }
  const server = await openServer({ environment, interruption }, { isMade });
  const url = isOwn ? (environment.migrationUrl ?? server.url) : server.url;
  try {
    return await interruption.guard(() => work(url));
  } catch (error) {
    // A table in use says who holds it; DATABASE_URL is not to blame.
    throw isContended(error) ? error : describeFailure(error, url, urlsFrom(shard));
  } finally {
    await server.stop();
  }
}
