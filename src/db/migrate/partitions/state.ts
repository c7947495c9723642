import type { Queryable } from '../journal.js';
import {
  DEFAULT_PARTITION,
  type Month,
  monthOfPartition,
  monthsOfPreparing,
  USAGE,
} from './months.js';

export interface Partition {
  name: string;
  /** Null: the default partition, or one of another range. */
  month: Month | null;
  isDefault: boolean;
  /** As the server last estimated; null: never. */
  rows: number | null;
  /** With its indexes. */
  bytes: number;
}

export interface PartitionState {
  /** `none`: there is no such table yet; `other`: partitioned, by somebody else. */
  kind: 'none' | 'plain' | 'by id' | 'other';
  /** Over its partitions, which the server does not do by itself. */
  isAnalyzed: boolean;
  /** By name. */
  partitions: Partition[];
  /** Months that are being prepared, or were by a run that was ended. */
  preparing: { name: string; first: Month; last: Month; isValidated: boolean } | null;
  /** Tables that are named as months and are not attached: a run was ended. */
  detached: string[];
  /** By the server's clock, ms since the epoch. */
  nowMs: number;
}

interface StateRow {
  kind: string;
  key: string | null;
  isAnalyzed: boolean;
  partitions: (Omit<Partition, 'month'> & { month?: never })[];
  checks: { name: string; isValidated: boolean }[];
  detached: string[];
  nowMs: number;
}

/** Names of the search path, which a ledger's sessions find its tables by. */
const STATE = `
select c.relkind::text as kind, pg_get_partkeydef(c.oid) as key,
  c.reltuples >= 0 as "isAnalyzed",
  (extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs",
  coalesce((
    select json_agg(json_build_object(
      'name', p.relname,
      'isDefault', pg_get_expr(p.relpartbound, p.oid) = 'DEFAULT',
      'rows', nullif(p.reltuples, -1)::float8,
      'bytes', pg_total_relation_size(p.oid)
    ) order by p.relname)
    from pg_inherits as i
    join pg_class as p on p.oid = i.inhrelid
    where i.inhparent = c.oid
  ), '[]') as partitions,
  coalesce((
    select json_agg(json_build_object('name', k.conname, 'isValidated', k.convalidated))
    from pg_constraint as k
    where k.conrelid = to_regclass('${DEFAULT_PARTITION}')
      and k.contype = 'c'
  ), '[]') as checks,
  array(
    select d.relname::text
    from pg_class as d
    where d.relnamespace = c.relnamespace
      and d.relkind = 'r'
      and not d.relispartition
      and d.relname ~ '^${USAGE}_[0-9]{4}_[0-9]{2}$'
    order by 1
  ) as detached
from pg_class as c
where c.oid = to_regclass('${USAGE}')`;

/** How the log is partitioned. Reads the catalog alone. */
export async function readPartitionState(database: Queryable): Promise<PartitionState> {
  const row = (await database.query(STATE)).rows[0] as StateRow | undefined;
  if (row === undefined) {
    return {
      kind: 'none',
      isAnalyzed: false,
      partitions: [],
      preparing: null,
      detached: [],
      nowMs: 0,
    };
  }
  const partitions = row.partitions.map((partition) => ({
    ...partition,
    month: monthOfPartition(partition.name),
  }));
  return {
    kind: kindOf(row),
    isAnalyzed: row.isAnalyzed,
    partitions,
    preparing: row.checks.map(toPreparing).find((each) => each !== null) ?? null,
    detached: row.detached,
    nowMs: row.nowMs,
  };
}

function kindOf({ kind, key, partitions }: StateRow): PartitionState['kind'] {
  if (kind === 'r') return 'plain';
  const hasDefault = partitions.some(
    ({ name, isDefault }) => isDefault && name === DEFAULT_PARTITION,
  );
  return key === 'RANGE (id)' && hasDefault ? 'by id' : 'other';
}

function toPreparing({ name, isValidated }: StateRow['checks'][number]) {
  const months = monthsOfPreparing(name);
  return months === null ? null : { name, first: months[0], last: months[1], isValidated };
}

/** Columns of the log that can be written, for a list in SQL: to move rows between its partitions. */
export async function readColumnList(database: Queryable): Promise<string> {
  const { rows } = await database.query(
    `select string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns
    from pg_attribute as a
    where a.attrelid = to_regclass('${USAGE}')
      and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''`,
  );
  return (rows[0] as { columns: string }).columns;
}
