/**
 * The one declaration of what is unsettled (src/counter/README.md). A usage row is its own delta:
 * its `position` is null or negative when its effect is in the counter rows, else generation and
 * top-level transaction id of its writer. A payer carries a mark for each log; a row is unsettled iff
 *
 *   position >= below  or  position = any(except)
 *
 * A negative position is the same of a row whose effect is there from the start, written in place or
 * without a cost: rollups by dimension, which have marks of their own, order it by |position|.
 * Views, settle, reads, verification and archive are built from these fragments.
 */
export interface Log {
  table: 'microdollar_usage' | 'exa_usage_log';
  /** Columns of the payer: everything below is settled, but for the exceptions. */
  below: 'settled_below' | 'exa_settled_below';
  except: 'settled_except' | 'exa_settled_except';
}

export const USAGE_LOG: Log = {
  table: 'microdollar_usage',
  below: 'settled_below',
  except: 'settled_except',
};
export const EXA_LOG: Log = {
  table: 'exa_usage_log',
  below: 'exa_settled_below',
  except: 'exa_settled_except',
};

/** From here on: written where the ledger did not know the cluster (R6); above every mark. */
export const UNKNOWN_GENERATION = 524_287n << 44n;

/** Who pays: the user for personal events, the organization for its own. */
export interface PayerScope {
  name: 'user' | 'organization';
  payers: 'kilocode_users' | 'organizations';
  idType: 'text' | 'uuid';
  /** Value of `payerKeySql` of the rows of payer `payer`. */
  keyOf(payer: string): string;
  /**
   * Whether log row `row` is the payer's: hashes collide. `is not distinct from` fits no other
   * index, so statistics cannot choose to read a payer's whole history.
   */
  owns(row: string, payer: string): string;
  /** The same of a counter row, as equality: its partial indexes need it. */
  ownsCounter(row: string, payer: string): string;
  /** User and organization of a log row of payer `payer`. */
  userOf(row: string, payer: string): string;
  organizationOf(payer: string): string;
}

export const USER_SCOPE: PayerScope = {
  name: 'user',
  payers: 'kilocode_users',
  idType: 'text',
  keyOf: (payer) => `hashtextextended(${payer}.id, 0)`,
  owns: (row, payer) => `${row}.kilo_user_id is not distinct from ${payer}.id
    and ${row}.organization_id is null`,
  ownsCounter: (row, payer) => `${row}.kilo_user_id = ${payer}.id
      and ${row}.organization_id is null`,
  userOf: (_row, payer) => `${payer}.id`,
  organizationOf: () => 'null::uuid',
};

export const ORGANIZATION_SCOPE: PayerScope = {
  name: 'organization',
  payers: 'organizations',
  idType: 'uuid',
  keyOf: (payer) => `uuid_hash_extended(${payer}.id, 0)`,
  owns: (row, payer) => `${row}.organization_id is not distinct from ${payer}.id`,
  ownsCounter: (row, payer) => `${row}.organization_id = ${payer}.id`,
  userOf: (row) => `${row}.kilo_user_id`,
  organizationOf: (payer) => `${payer}.id`,
};

export const PAYER_SCOPES: readonly PayerScope[] = [USER_SCOPE, ORGANIZATION_SCOPE];

export function scopeNamed(name: PayerScope['name']): PayerScope {
  return name === 'user' ? USER_SCOPE : ORGANIZATION_SCOPE;
}

/** First column of the index of unsettled rows, one for users and organizations together. */
export function payerKeySql(row?: string): string {
  const of = row === undefined ? '' : `${row}.`;
  return `case when ${of}organization_id is null then hashtextextended(${of}kilo_user_id, 0)
    else uuid_hash_extended(${of}organization_id, 0) end`;
}

/**
 * Every position lies in here. It tells the planner so: of a range with one end it expects a third
 * of what matches, of one with two ends a two-hundredth. Where the server compiles expensive plans
 * (`jit`, the default), a settle on a host's own connection was held for expensive at a million
 * rows, and was compiled for two seconds each time. The text of a view does without: it is part of the
 * schema.
 */
const BOUNDS = {
  statement: {
    above: ' and m.position <= 9223372036854775807',
    below: ' and m.position >= 0',
  },
  view: { above: '', below: '' },
};
type Use = keyof typeof BOUNDS;

const positionedRows = (log: Log, scope: PayerScope, columns: string, payer: string): string =>
  `select ${columns}
  from ${log.table} as m
  where ${payerKeySql('m')} = ${scope.keyOf(payer)}
    and ${scope.owns('m', payer)}
    and m.position is not null`;

/** The unsettled rows `m` of a payer that has no exceptions. */
export function rowsPastMark(
  log: Log,
  scope: PayerScope,
  columns: string,
  payer: string,
  use: Use = 'statement',
): string {
  return `${positionedRows(log, scope, columns, payer)}
    and m.position >= ${payer}.${log.below}${BOUNDS[use].above}`;
}

/** `columns` of the unsettled rows `m` of payer `payer`, by two ranges of one index. */
export function unsettledRows(
  log: Log,
  scope: PayerScope,
  columns: string,
  payer: string,
  use: Use = 'statement',
): string {
  return `${rowsPastMark(log, scope, columns, payer, use)}
  union all
  ${excepted(log, scope, columns, payer)}${BOUNDS[use].below}`;
}

const excepted = (log: Log, scope: PayerScope, columns: string, payer: string): string =>
  `${positionedRows(log, scope, columns, payer)}
    and ${payer}.${log.except} <> '{}'
    and m.position = any (${payer}.${log.except})
    and m.position < ${payer}.${log.below}`;

/** The same as far as position `end`, which is past the mark: nothing behind it is read. */
export function unsettledRowsBelow(
  log: Log,
  scope: PayerScope,
  columns: string,
  payer: string,
  end: string,
): string {
  return `${rowsPastMark(log, scope, columns, payer)}
    and m.position < ${end}
  union all
  ${excepted(log, scope, columns, payer)}${BOUNDS.statement.below}`;
}

/**
 * Positions among which are those of the first `limit` unsettled rows, by order of position: a bounded
 * look at the beginning of either range.
 */
export function firstPositions(log: Log, scope: PayerScope, payer: string, limit: string): string {
  const first = (rows: string): string => `(
    ${rows}
    order by m.position
    limit ${limit}
  )`;
  return `${first(rowsPastMark(log, scope, 'm.position', payer))}
  union all
  ${first(`${excepted(log, scope, 'm.position', payer)}${BOUNDS.statement.below}`)}`;
}

/**
 * The user of an unsettled row `m`, where it is to be compared: no column of the table, for the planner.
 * A user whom statistics do not know is expected to have one row, and their whole history was read to
 * look for unsettled ones.
 */
export const UNSETTLED_USER = `m.kilo_user_id || '' as kilo_user_id`;

/** Whether log row `row` is settled under the mark of payer `payer`. */
export function isSettledSql(log: Log, row: string, payer: string): string {
  return `(${row}.position is null or (${row}.position < ${payer}.${log.below}
      and ${row}.position <> all (${payer}.${log.except})))`;
}
