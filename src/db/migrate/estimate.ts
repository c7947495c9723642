import { LEDGER_NAMESPACE } from '../ledgerSchema.js';
import type { Queryable } from './journal.js';
import type { Step } from './step.js';

/** What a long step reads and writes, from the server's statistics. */
export interface StepEstimate {
  rows: number;
  /** Of its tables, as they are. */
  bytes: number;
  seconds: number;
  /** What it adds. Of a partial index: at most. */
  diskBytes: number;
}

/**
 * Of one core, beside writers, on a slow disk: rather too long than too short
 * (docs/operations/sizing.md has what was measured).
 */
const INDEX_ROWS_PER_SECOND = 200_000;
const SCAN_BYTES_PER_SECOND = 100_000_000;
/** ANALYZE reads a sample, whatever the size. */
const MAX_ANALYZED_BYTES = 30_000 * 8_192;

/** Of an index entry: its header, and its place in the page. */
const ENTRY_BYTES = 12;
const FILL_FACTOR = 0.9;
const UNKNOWN_WIDTH = 16;

interface TableStatistics {
  name: string;
  rows: number;
  bytes: number;
  widths: Record<string, number>;
}

/** For each long step; null for those that only change the catalog. */
export async function estimateSteps(
  database: Queryable,
  steps: readonly Step[],
): Promise<(StepEstimate | null)[]> {
  const isLong = ({ duration }: Step) => duration === 'long';
  const names = [...new Set(steps.filter(isLong).flatMap((step) => step.tables))];
  const { rows } = await database.query(STATISTICS, [names]);
  const tables = new Map((rows as TableStatistics[]).map((table) => [table.name, table]));
  return steps.map((step) => (isLong(step) ? estimateStep(step, tables) : null));
}

function estimateStep(step: Step, tables: ReadonlyMap<string, TableStatistics>): StepEstimate {
  const found = step.tables.flatMap((name) => tables.get(name) ?? []);
  const rows = found.reduce((sum, table) => sum + table.rows, 0);
  const bytes = found.reduce((sum, table) => sum + table.bytes, 0);
  if (step.kind === 'create_index') {
    const diskBytes = found.reduce((sum, table) => sum + indexBytes(step, table), 0);
    return { rows, bytes, seconds: rows / INDEX_ROWS_PER_SECOND, diskBytes };
  }
  const read =
    step.kind === 'analyze'
      ? found.reduce((sum, table) => sum + Math.min(table.bytes, MAX_ANALYZED_BYTES), 0)
      : bytes;
  return { rows, bytes, seconds: read / SCAN_BYTES_PER_SECOND, diskBytes: 0 };
}

function indexBytes({ statements }: Step, { rows, widths }: TableStatistics): number {
  const [, keys = ''] = /\((.*)\)/s.exec((statements[0] ?? '').replace(/ WHERE .*/s, '')) ?? [];
  const width = [...keys.matchAll(/\w+/g)].reduce((sum, [word]) => sum + (widths[word] ?? 0), 0);
  return Math.round((rows * (ENTRY_BYTES + (width || UNKNOWN_WIDTH))) / FILL_FACTOR);
}

/**
 * Rows by the density of the last ANALYZE and the size now; a table never analyzed counts by its size. With
 * partitions: of all.
 */
const STATISTICS = `
select c.relname as name,
  (
    select sum(case when p.reltuples >= 0 and p.relpages > 0
      then p.reltuples / p.relpages * pg_relation_size(p.oid)
        / current_setting('block_size')::integer
      else pg_relation_size(p.oid) / 200 end)::double precision
    from pg_class as p
    where p.oid = c.oid or p.oid in (select inhrelid from pg_inherits where inhparent = c.oid)
  ) as rows,
  (
    select sum(pg_table_size(p.oid))::double precision
    from pg_class as p
    where p.oid = c.oid or p.oid in (select inhrelid from pg_inherits where inhparent = c.oid)
  ) as bytes,
  coalesce((
    select jsonb_object_agg(s.attname, s.avg_width)
    from pg_stats as s
    where s.schemaname = n.nspname and s.tablename = c.relname), '{}') as widths
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
where c.relnamespace = ${LEDGER_NAMESPACE}
  and c.relname = any ($1::text[])`;
