import { createHash } from 'node:crypto';
import { instantText } from '../../db/instant.sql.js';
import type { Statement } from '../../db/statement.js';
import { METRIC_NAMES } from '../../schema/dimensionRollups.js';
import { proofOf } from './proof.sql.js';
import { GROUPS, type ValidReportQuery } from './query.js';
import { BOUNDS, type ReportSource, rollupsOf, scopeOf, sourceRows } from './sources.sql.js';

/** Numeric columns come as text. */
export type ReportedRow = Record<(typeof METRIC_NAMES)[number], string> & {
  /** `unproven`: the only row; the source does not answer for the range. */
  kind: 'row' | 'total' | 'previous' | 'unproven';
  /** Local time of the zone at the period's first instant, and the zone's offset then. */
  local_start: string | null;
  offset_minutes: number | null;
  group_1: string | null;
  group_2: string | null;
  is_other: boolean;
  as_of: string;
  is_replica: boolean;
};

const SUMS = METRIC_NAMES.map((name) => `coalesce(sum(x.${name}), 0) as ${name}`).join(', ');
const ORDERS = {
  cost: 'sum(x.cost_microdollars)',
  requests: 'sum(x.requests)',
  tokens: 'sum(x.input_tokens + x.output_tokens)',
};

/** Whether two rows are of the same groups, of which any may be null: by equalities, which hash. */
const SAME_GROUPS = [1, 2]
  .map(
    (n) => `coalesce(x.group_${n}, '') = coalesce(r.group_${n}, '')
    and (x.group_${n} is null) = (r.group_${n} is null)`,
  )
  .join('\n    and ');

/** The largest groups; a group of which everything was taken off again is none. */
const RANKED = (order: string) => `ranked as materialized (
  select x.group_1, x.group_2
  from source as x
  where not x.is_previous
  group by x.group_1, x.group_2
  having sum(x.requests) <> 0
  order by ${order} desc, x.group_1, x.group_2
  limit $9::integer
), period as materialized (
  select x.start, r.is_ranked is null as is_other, r.group_1, r.group_2, ${SUMS}
  from source as x
  left join (select true as is_ranked, r.group_1, r.group_2 from ranked as r) as r
    on ${SAME_GROUPS}
  where not x.is_previous
  group by 1, 2, 3, 4
  having sum(x.requests) <> 0
)`;

const UNGROUPED = `period as materialized (
  select x.start, false as is_other, null::text collate "C" as group_1,
    null::text collate "C" as group_2, ${SUMS}
  from source as x
  where not x.is_previous
  group by x.start
  having sum(x.requests) <> 0
)`;

/**
 * One report, in one statement, so in one snapshot, with the proof that its source answers for the range:
 * a row a period and group, the groups beyond the largest as one `other`; the total; the total of the
 * days before. Where that is not proven: one row that says so.
 *
 *   source    counted by whole days, by quarters of an hour, or not at all
 *   ranked    the largest groups
 *   period    summed by period of the zone and group
 */
export function usageReportStatement(query: ValidReportQuery, source: ReportSource): Statement {
  const { before, rows } = sourceRows(
    query,
    source,
    query.by.map((group) => GROUPS[group]),
  );
  const proofs = rollupsOf(query, source).map((rollup, index) =>
    proofOf(rollup, scopeOf(query), `unproven_${index + 1}`),
  );
  const text = `/* usage.report ${source} */
with ${[BOUNDS, ...before, ...proofs.map(({ days }) => days)].join(', ')}, proof as materialized (
  select ${['true', ...proofs.map(({ isEmpty }) => isEmpty)].join('\n  and ')} as is_proven
), source as ${query.by.length === 0 ? '' : 'materialized '}(
  select x.*
  from (
    ${rows}
  ) as x
  where (select p.is_proven from proof as p)
), ${query.by.length === 0 ? UNGROUPED : RANKED(ORDERS[query.metric])}
select r.*, pg_is_in_recovery() as is_replica,
  ${instantText('coalesce(pg_last_xact_replay_timestamp(), now())')} as as_of
from (
  select 'row' as kind, to_char(p.start at time zone $4::text, 'YYYY-MM-DD"T"HH24:MI:SS') as local_start,
    (extract(epoch from (p.start at time zone $4::text) - (p.start at time zone 'UTC')) / 60)::integer
      as offset_minutes,
    p.group_1, p.group_2, p.is_other, ${METRIC_NAMES.map((name) => `p.${name}`).join(', ')}, p.start
  from period as p
  union all
  select case when (select p.is_proven from proof as p) then 'total' else 'unproven' end,
    null, null, null, null, false, ${SUMS}, null
  from period as x${
    query.compare
      ? `
  union all
  select 'previous', null, null, null, null, false, ${SUMS}, null
  from source as x
  where x.is_previous`
      : ''
  }
) as r
order by r.kind, r.start, r.is_other, r.group_1 nulls last, r.group_2 nulls last`;
  return {
    name: `microdollar_report_${createHash('sha256').update(text).digest('hex').slice(0, 32)}`,
    text,
    values: [
      query.payer.id,
      query.from,
      query.until,
      query.zone,
      query.compare ? query.days : 0,
      query.member,
      query.apiKeyId,
      query.grain,
      query.top,
    ],
  };
}
