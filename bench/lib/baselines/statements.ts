import type pg from 'pg';
import { createPool, WRITE_SETTINGS } from '../../../src/db/pool.js';
import type { Statement } from '../../../src/db/statement.js';
import type { LookupName } from '../../../src/schema/lookupNames.js';
import type { BenchEvent } from '../population.js';

/** Connections of every approach that sends one event a statement. */
export const CONNECTIONS = 32;

const USAGE_COLUMNS = [
  ['id', 'uuid'],
  ['kilo_user_id', 'text'],
  ['organization_id', 'uuid'],
  ['provider', 'text'],
  ['model', 'text'],
  ['requested_model', 'text'],
  ['inference_provider', 'text'],
  ['project_id', 'text'],
  ['cost', 'bigint'],
  ['input_tokens', 'bigint'],
  ['output_tokens', 'bigint'],
  ['cache_write_tokens', 'bigint'],
  ['cache_hit_tokens', 'bigint'],
  ['cache_discount', 'bigint'],
  ['has_error', 'boolean'],
] as const;

const METADATA_COLUMNS = [
  ['message_id', 'text'],
  ['session_id', 'text'],
  ['user_prompt_prefix', 'text'],
  ['system_prompt_length', 'integer'],
  ['max_tokens', 'integer'],
  ['status_code', 'integer'],
  ['latency', 'double precision'],
  ['generation_time', 'double precision'],
  ['has_tools', 'boolean'],
  ['streamed', 'boolean'],
  ['is_byok', 'boolean'],
] as const;

const METADATA_LOOKUPS = [
  'http_user_agent',
  'editor_name',
  'finish_reason',
  'api_kind',
  'feature',
] as const satisfies readonly LookupName[];

export const USAGE_COLUMN_LIST = `${USAGE_COLUMNS.map(([name]) => name).join(', ')}, created_at`;
export const METADATA_COLUMN_LIST = [
  'id, kilo_user_id, created_at',
  ...METADATA_COLUMNS.map(([name]) => name),
  ...METADATA_LOOKUPS.map((name) => `${name}_id`),
].join(', ');

const usageParameters = USAGE_COLUMNS.map(([, type], index) => `$${index + 1}::${type}`);
const metadataParameters = METADATA_COLUMNS.map(
  ([, type], index) => `$${USAGE_COLUMNS.length + index + 1}::${type}`,
);
const lookupPlace = (index: number) => USAGE_COLUMNS.length + METADATA_COLUMNS.length + index + 1;

/** `$2`, `$3`, `$9`: the parameters that totals depend on. */
export const USER = '$2::text';
export const ORGANIZATION = '$3::uuid';
export const COST = '$9::bigint';

const writeRows = (lookupIds: readonly string[]) => `usage_written as (
  insert into microdollar_usage (${USAGE_COLUMN_LIST})
  values (${usageParameters.join(', ')}, now())
), metadata_written as (
  insert into microdollar_usage_metadata (${METADATA_COLUMN_LIST})
  values ($1::uuid, $2::text, now(), ${[...metadataParameters, ...lookupIds].join(', ')})
)`;

/** Usage and metadata row; every baseline statement begins with these two. */
export const WRITE_ROWS = writeRows(
  METADATA_LOOKUPS.map((_, index) => `$${lookupPlace(index)}::integer`),
);

/** The same, where lookup values are found, or made, in the statement itself. */
export const WRITE_ROWS_AND_LOOKUPS = [
  ...METADATA_LOOKUPS.map((name, index) => {
    const value = `$${lookupPlace(index)}::text`;
    return `${name}_found as (
  select ${name}_id as id from ${name} where ${name} = ${value}
), ${name}_made as (
  insert into ${name} (${name})
  select ${value}
  where ${value} is not null
    and not exists (select from ${name}_found)
  on conflict (${name}) do update set ${name} = excluded.${name}
  returning ${name}_id as id
)`;
  }),
  writeRows(
    METADATA_LOOKUPS.map(
      (name) => `coalesce((select id from ${name}_found), (select id from ${name}_made))`,
    ),
  ),
].join(', ');

/** Ids of lookup values, by `name:value`. Baselines are given them: no lookup is timed. */
export type LookupIds = ReadonlyMap<string, number>;

/** Creates every lookup value that events of the benchmark carry. */
export async function createLookups(pool: pg.Pool, events: readonly BenchEvent[]) {
  const ids = new Map<string, number>();
  for (const event of events) {
    for (const name of METADATA_LOOKUPS) {
      const value = event.metadata[name];
      if (value === null || value === undefined || ids.has(`${name}:${value}`)) continue;
      const result = await pool.query('select microdollar_lookup_id($1, $2) as id', [name, value]);
      ids.set(`${name}:${value}`, result.rows[0].id);
    }
  }
  return ids as LookupIds;
}

export function usageValues(event: BenchEvent): unknown[] {
  return USAGE_COLUMNS.map(([name]) => event[name] ?? null);
}

export function metadataValues(event: BenchEvent, lookups: LookupIds): unknown[] {
  return [
    ...METADATA_COLUMNS.map(([name]) => event.metadata[name] ?? null),
    ...METADATA_LOOKUPS.map((name) => lookups.get(`${name}:${event.metadata[name]}`) ?? null),
  ];
}

/** For `WRITE_ROWS_AND_LOOKUPS`: values in place of ids. */
export function valuesWithLookups(event: BenchEvent): unknown[] {
  return [
    ...usageValues(event),
    ...METADATA_COLUMNS.map(([name]) => event.metadata[name] ?? null),
    ...METADATA_LOOKUPS.map((name) => event.metadata[name] ?? null),
  ];
}

/** A statement on one event's parameters, prepared by name as the ledger's own are. */
export function eventStatement(
  name: string,
  text: string,
  event: BenchEvent,
  lookups: LookupIds,
): Statement {
  return { name, text, values: [...usageValues(event), ...metadataValues(event, lookups)] };
}

/** The ledger's own pool, with its timeouts and planner settings. */
export function openPool(url: string, size = CONNECTIONS): pg.Pool {
  return createPool({
    url,
    size,
    applicationName: 'bench baseline',
    lockTimeoutMs: 60_000,
    statementTimeoutMs: 120_000,
    connectTimeoutMs: 60_000,
    settings: WRITE_SETTINGS,
  });
}

/** Triggers that guard the ledger's own protocol: no baseline needs them, or pays for them. */
export async function dropGuards(pool: pg.Pool): Promise<void> {
  await pool.query('drop trigger guard_insert on microdollar_usage_daily');
}
