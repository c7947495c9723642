import { PAYER_SCOPES, type PayerScope, payerKeySql } from './unsettled.js';

/**
 * Rollups by dimension: counter tables that sum the log by payer, user, period and some of its
 * columns. Declared once here: the fold, the exact view, reads, verification and repair are built from
 * the declaration, so a further rollup is a declaration and a migration (its table and view).
 *
 * They are folded apart from the balance, by a mark of their own per payer, later and less often.
 * Reported = counter rows + the payer's tail, the rows of the log behind that mark, in one snapshot.
 * As every request counts here, also one that costs nothing, rows that are in the base counters from
 * the start have a position too: the negative of what it would be. The base mark takes it for
 * settled; here |position| says whether it is counted. A row without any is from before, or of
 * another program: it is counted when the period is built, or repaired.
 */
export interface DimensionRollup {
  /** Counter table. */
  name: string;
  /** Length of a period: divides an hour, is one, or is a UTC day. */
  minutes: 15 | 60 | 1440;
  dimensions: readonly Dimension[];
}

/** Columns of the log that a rollup may have in its key. */
export const DIMENSION_TYPES = {
  provider: 'text',
  model: 'text',
  api_key_id: 'uuid',
  project_id: 'text',
} as const;
export type Dimension = keyof typeof DIMENSION_TYPES;

/** What is summed, of log row `m`. Rows of other programs may have no counts: adopted columns take null. */
export const METRICS = [
  { name: 'cost_microdollars', of: 'm.cost' },
  { name: 'requests', of: '1' },
  { name: 'errors', of: 'coalesce(m.has_error, false)::integer' },
  { name: 'input_tokens', of: 'coalesce(m.input_tokens, 0)' },
  { name: 'output_tokens', of: 'coalesce(m.output_tokens, 0)' },
  { name: 'cache_hit_tokens', of: 'coalesce(m.cache_hit_tokens, 0)' },
  { name: 'cache_write_tokens', of: 'coalesce(m.cache_write_tokens, 0)' },
] as const;
export type MetricName = (typeof METRICS)[number]['name'];
export const METRIC_NAMES: readonly MetricName[] = METRICS.map(({ name }) => name);

/**
 * A counter row in the list of a report: its start in seconds since 1970 and its sums, with commas between.
 * The table has it as a column that follows from the others: from numerics, for how a float is printed
 * follows from the session too, and no bigint is infinite.
 */
export const ENTRY = [
  `trunc(extract(epoch from period_start at time zone 'UTC'))::text`,
  ...METRIC_NAMES.map((name) => `${name}::text`),
].join(` || ',' || `);

/** Every offset of a time zone since 2015 is a multiple of 15 minutes. */
export const QUARTER_HOURLY: DimensionRollup = {
  name: 'microdollar_usage_quarter_hourly',
  minutes: 15,
  dimensions: ['provider', 'model', 'api_key_id', 'project_id'],
};

/** The same by UTC day: of a user with much usage, a hundredth of the rows to read for three months. */
export const DAILY_BY_DIMENSION: DimensionRollup = {
  name: 'microdollar_usage_daily_by_dimension',
  minutes: 1440,
  dimensions: ['provider', 'model', 'api_key_id', 'project_id'],
};

/** By nothing but the user: of three months 90 rows, where one with many models and keys has a thousand. */
export const DAILY_BY_USER: DimensionRollup = {
  name: 'microdollar_usage_daily_by_user',
  minutes: 1440,
  dimensions: [],
};

export const DIMENSION_ROLLUPS: readonly DimensionRollup[] = [
  QUARTER_HOURLY,
  DAILY_BY_DIMENSION,
  DAILY_BY_USER,
];

export function keyColumns({ dimensions }: DimensionRollup): string[] {
  return ['kilo_user_id', 'organization_id', 'period_start', ...dimensions];
}

/** In names of statements, which the server cuts at 63 characters. */
export function labelOf({ name }: DimensionRollup): string {
  return name.replace(/^microdollar_/, '').slice(0, 30);
}

/** Periods are counted from here; any midnight of UTC. */
export const PERIOD_ORIGIN = `timestamptz '2000-01-01 00:00:00+00'`;

/** Start of the period of an instant. */
export function periodStartOf({ minutes }: DimensionRollup, instant: string): string {
  return `date_bin('${minutes} minutes', ${instant}, ${PERIOD_ORIGIN})`;
}

/**
 * The id of a counter row follows from its key, so one conflict target serves keys with nulls and
 * keys of any length. JSON tells null from text, whatever the settings of the session.
 */
export function counterId(rollup: DimensionRollup, row: string): string {
  const parts = keyColumns(rollup).map((name) =>
    name === 'period_start' ? `${row}.period_start at time zone 'UTC'` : `${row}.${name}`,
  );
  return `encode(substring(sha256(convert_to(
      jsonb_build_array(${parts.join(', ')})::text, 'UTF8')) for 16), 'hex')::uuid`;
}

/** Columns of log rows `m` as a fold sums them, key first. */
export function keyAndSums(rollup: DimensionRollup): string {
  return [
    'm.kilo_user_id, m.organization_id',
    `${periodStartOf(rollup, 'm.created_at')} as period_start`,
    ...rollup.dimensions.map((name) => `m.${name}`),
    ...METRICS.map(({ name, of }) => `sum(${of}) as ${name}`),
  ].join(', ');
}

/** For `group by`, with `keyAndSums`. */
export function keyPlaces(rollup: DimensionRollup): string {
  return keyColumns(rollup)
    .map((_, index) => index + 1)
    .join(', ');
}

/** Columns of the log that `keyAndSums` needs. */
export function sourceColumns({ dimensions }: DimensionRollup): string {
  const columns = ['kilo_user_id', 'organization_id', 'created_at', ...dimensions, 'position'];
  const summed = ['cost', 'has_error', 'input_tokens', 'output_tokens'];
  return [...columns, ...summed, 'cache_hit_tokens', 'cache_write_tokens']
    .map((name) => `m.${name}`)
    .join(', ');
}

/** The mark of a payer, from `mark` or, where it has none yet, from the rollup's start. */
export const markColumns = (mark: string, start: string): string => {
  const except = `coalesce(${mark}.settled_except, '{}')`;
  return `coalesce(${mark}.settled_below, ${start}) as below, ${except} as except,
      array(select -e from unnest(${except}) as e) as minus`;
};

/** Position from which on the log is folded; what lies below is built by the backfill. */
export function startOf({ name }: DimensionRollup): string {
  return `coalesce((select r.position from rollup_starts as r where r.rollup = '${name}'), 0)`;
}

/** Payers `u` of a scope with id, below, except and minus, as `tailRows` takes them. */
export function payersWithMarks(rollup: DimensionRollup, scope: PayerScope): string {
  return `select u.id, ${markColumns('k', startOf(rollup))}
    from ${scope.payers} as u
    left join rollup_marks as k
      on k.rollup = '${rollup.name}'
      and k.payer_scope = '${scope.name}'
      and k.payer_id = u.id::text`;
}

/** Marks that exist, of payers $1, locked where they are free. */
export function lockedMarks(rollup: DimensionRollup, scope: PayerScope): string {
  return `select k.payer_id::${scope.idType} as id, k.payer_id, ${markColumns('k', '0')}
    from rollup_marks as k
    where k.rollup = '${rollup.name}'
      and k.payer_scope = '${scope.name}'
      and k.payer_id = any ($1::text[])
    for no key update of k skip locked`;
}

/**
 * `columns` of the log rows `m` of payer `payer` that are not counted yet: by four ranges of the index
 * of unsettled rows.
 */
export function tailRows(scope: PayerScope, columns: string, payer: string): string {
  return tailRanges(scope, columns, payer).join('\n      union all\n      ');
}

/** The same as far as |position| `end`, which is past the mark: nothing behind it is read. */
export function tailRowsBelow(
  scope: PayerScope,
  columns: string,
  payer: string,
  end: string,
): string {
  const [above, under, ...excepted] = tailRanges(scope, columns, payer);
  return [
    `${above}
        and m.position < ${end}`,
    `${under}
        and m.position > -${end}`,
    ...excepted,
  ].join('\n      union all\n      ');
}

/**
 * Positions among which are those of the first `limit` rows that are not counted yet, by order of
 * |position|: a bounded look at the beginning of each range.
 */
export function firstTailPositions(scope: PayerScope, payer: string, limit: string): string {
  const ranges = tailRanges(scope, 'm.position', payer);
  const first = ranges.map(
    (rows, index) => `(
        ${rows}
        order by m.position${index % 2 === 0 ? '' : ' desc'}
        limit ${limit}
      )`,
  );
  return first.join('\n      union all\n      ');
}

/** Positions past the mark, negative ones, exceptions, negative ones. */
function tailRanges(scope: PayerScope, columns: string, payer: string): string[] {
  const ofPayer = `select ${columns}
      from microdollar_usage as m
      where ${payerKeySql('m')} = ${scope.keyOf(payer)}
        and ${scope.owns('m', payer)}
        and m.position is not null`;
  return [
    `${ofPayer}
        and m.position >= ${payer}.below`,
    `${ofPayer}
        and m.position <= -${payer}.below`,
    `${ofPayer}
        and ${payer}.except <> '{}'
        and m.position = any (${payer}.except)
        and m.position < ${payer}.below`,
    `${ofPayer}
        and ${payer}.except <> '{}'
        and m.position = any (${payer}.minus)
        and m.position > -${payer}.below`,
  ];
}

/** Whether log row `m` is in the counter rows of payer `payer`, or is to be by whoever builds them. */
export function isCounted(payer: string): string {
  return `(m.position is null
      or (abs(m.position) < ${payer}.below and abs(m.position) <> all (${payer}.except)))`;
}

/** The same of one log row, whoever pays. */
export function isRowCounted(rollup: DimensionRollup, row: string): string {
  return `(${row}.position is null or (
      select abs(${row}.position) < k.below and abs(${row}.position) <> all (k.except)
      from (
        select ${markColumns('mark', startOf(rollup))}
        from (select) as one
        left join rollup_marks as mark
          on mark.rollup = '${rollup.name}'
          and mark.payer_scope = case when ${row}.organization_id is null then 'user'
            else 'organization' end
          and mark.payer_id = coalesce(${row}.organization_id::text, ${row}.kilo_user_id)
      ) as k
    ))`;
}

/** Log rows `m` for which `condition` holds and that are counted, whoever pays: to be summed. */
export function countedRows(rollup: DimensionRollup, condition: string): string {
  return `microdollar_usage as m
    left join rollup_marks as mark
      on mark.rollup = '${rollup.name}'
      and mark.payer_scope = case when m.organization_id is null then 'user'
        else 'organization' end
      and mark.payer_id = coalesce(m.organization_id::text, m.kilo_user_id)
    cross join lateral (
      select coalesce(mark.settled_below, ${startOf(rollup)}) as below,
        coalesce(mark.settled_except, '{}') as except
    ) as k
    where ${condition}
      and ${isCounted('k')}`;
}

/** Payers `u` of a scope by their ids as text, $1, with their marks; whether they exist or not. */
export function markedPayers(rollup: DimensionRollup, scope: PayerScope): string {
  return `select t.id::${scope.idType} as id, ${markColumns('k', startOf(rollup))}
    from unnest($1::text[]) as t(id)
    left join rollup_marks as k
      on k.rollup = '${rollup.name}'
      and k.payer_scope = '${scope.name}'
      and k.payer_id = t.id`;
}

/** Whether row `row`, of the log or of a counter table, is of payer `payer`: by its index on time. */
export function isOfPayer(scope: PayerScope, row: string, payer: string): string {
  return scope.name === 'user'
    ? `${row}.kilo_user_id = ${payer} and ${row}.organization_id is null`
    : `${row}.organization_id = ${payer}`;
}

/** Counter rows and tails of every payer, as rows of the counter table without ids. */
export function exactRows(rollup: DimensionRollup): string {
  const columns = [...keyColumns(rollup), ...METRIC_NAMES];
  const tails = PAYER_SCOPES.map(
    (scope) => `select ${keyColumns(rollup)
      .map((name) =>
        name === 'period_start' ? periodStartOf(rollup, 'm.created_at') : `m.${name}`,
      )
      .join(', ')}, ${METRICS.map(({ of }) => of).join(', ')}
    from (${payersWithMarks(rollup, scope)}) as u
    cross join lateral (
      ${tailRows(scope, sourceColumns(rollup), 'u')}
    ) as m`,
  );
  return `select ${keyColumns(rollup).join(', ')},
    ${METRIC_NAMES.map((name) => `sum(${name}) as ${name}`).join(', ')}
  from (
    select ${columns.join(', ')}
    from ${rollup.name}
    union all
    ${tails.join('\n    union all\n    ')}
  ) as parts
  group by ${keyPlaces(rollup)}`;
}
