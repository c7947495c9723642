import type pg from 'pg';
import { LedgerError } from '../../errors.js';
import { createReadBackStatements, readBackStatement } from './readBack.sql.js';
import { type ArchivedEvent, readArchive } from './readFile.js';

const PAGE_EVENTS = 1_000;

export interface ReadBackOptions {
  directory: string;
  /** UTC days, inclusive. Default: every day that there are files of. */
  from?: string | undefined;
  until?: string | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((report: Readonly<ReadBackReport>) => void) | undefined;
}

export interface ReadBackReport {
  /** First and last UTC day that had events; null: there were none. */
  from: string | null;
  until: string | null;
  events: number;
  /** Of them: those that were not there already. */
  added: number;
  costMicrodollars: bigint;
}

/**
 * Reads archived events into a table of a database that is not the ledger's, so that questions can be
 * asked of them. Each file is proven before its first event is taken. A page is a statement of its
 * own; a second run adds what is missing.
 * @throws LedgerError `invalid_request` for the directory or the ledger's own database, `internal`
 *   for a damaged file
 */
export async function readBack(
  client: pg.Client,
  { directory, from, until, signal, onProgress }: ReadBackOptions,
): Promise<ReadBackReport> {
  await refuseLedger(client);
  for (const statement of createReadBackStatements()) await client.query(statement);
  const report: ReadBackReport = {
    from: null,
    until: null,
    events: 0,
    added: 0,
    costMicrodollars: 0n,
  };
  const range = {
    ...(from === undefined ? {} : { from }),
    ...(until === undefined ? {} : { until }),
  };
  let page: ArchivedEvent[] = [];
  const add = async () => {
    if (page.length === 0) return;
    const { text, values } = readBackStatement(page);
    report.added += (await client.query(text, values)).rowCount ?? 0;
    page = [];
    onProgress?.(report);
  };
  for await (const event of readArchive(directory, range)) {
    if (signal?.aborted) break;
    page.push(event);
    report.events++;
    report.costMicrodollars += BigInt(event.cost);
    report.until = event.created_at.slice(0, 10);
    report.from ??= report.until;
    if (page.length === PAGE_EVENTS) await add();
  }
  await add();
  return report;
}

/** In whatever schema: rows beside the ledger's own would look like usage that nobody counted. */
async function refuseLedger(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ name: string; is_ledger: boolean }>(
    `select current_database() as name,
      exists (select from pg_class as c where c.relname = 'ledger_settings') as is_ledger`,
  );
  if (!rows[0]?.is_ledger) return;
  throw new LedgerError(
    'invalid_request',
    `${rows[0].name} is a ledger's own database; name another one with --database`,
    { details: { field: 'database' } },
  );
}
