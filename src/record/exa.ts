import { POSITION } from '../counter/position.sql.js';
import { withRetry } from '../db/retry.js';
import type { Statement } from '../db/statement.js';
import { boundWait, IS_BOUNDED } from './appendUsage.sql.js';
import { type Cleaning, invalid, readText, requireKnownFields, validateEvent } from './event.js';
import { type ExplainedRow, UNKNOWN_ACCOUNTS } from './explainUsage.sql.js';
import { formatMicros, microsOf, storedMicrosOf } from './instants.sql.js';
import { toExplained } from './outcome.js';
import type { Lane } from './recorder.js';
import { isHeld, type Twins } from './twins.js';
import type { ExaUsage, RecordedEvent } from './types.js';

const PATH_RULE = { maxLength: 512, minLength: 1 };
const EXA_FIELDS = ['id', 'kilo_user_id', 'organization_id', 'cost', 'path', 'created_at'];

export type ValidExaUsage = ReturnType<typeof validateExaUsage>;

/** @throws LedgerError `invalid_event` with `details.field` */
export function validateExaUsage(usage: ExaUsage, cleaning: Cleaning, nowMs = Date.now()) {
  requireKnownFields(usage, EXA_FIELDS);
  const { path, ...shared } = usage;
  const event = validateEvent(shared, cleaning, nowMs);
  if (path === undefined || path === null) throw invalid('path', 'is required, like /search');
  return {
    id: event.id,
    kilo_user_id: event.kilo_user_id,
    organization_id: event.organization_id,
    cost: event.cost,
    path: readText('path', path, PATH_RULE, cleaning),
    created_at: event.created_at,
  };
}

/** Parameters of both statements; `e` is the request. */
const REQUEST = `unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[], $6::timestamptz[])
  as e(id, kilo_user_id, organization_id, cost, path, created_at)`;

const HORIZON = '(select s.archive_horizon from ledger_settings as s where s.id = 1)';

/**
 * Appends one Exa request to its log, by the same rules as usage (appendUsage.sql.ts). Requests are
 * few: one text, which always proves the payer and the horizon.
 */
function appendText(boundsWaitMs: number | null): string {
  const bounded = boundsWaitMs === null ? '' : `with ${boundWait(boundsWaitMs)}\n`;
  const isBounded = boundsWaitMs === null ? '' : `\n  and ${IS_BOUNDED}`;
  return `/* microdollar.appendExaUsage */
${bounded}insert into exa_usage_log
  (id, kilo_user_id, organization_id, cost, path, created_at, position)
select e.id, u.id, e.organization_id, e.cost, e.path, coalesce(e.created_at, now()),
  case when e.cost <> 0 then ${POSITION} end
from ${REQUEST}
join kilocode_users as u on u.id = e.kilo_user_id
where case when e.organization_id is null then not u.is_elsewhere
    else exists (
      select from organizations as o where o.id = e.organization_id and not o.is_elsewhere) end
  and (e.created_at is null or e.created_at >= coalesce(${HORIZON}, '-infinity'))${isBounded}
on conflict (id) do nothing
returning ${microsOf('created_at')} as created_micros`;
}

const EXPLAIN = `/* microdollar.explainExaUsage */
select e.id, ${storedMicrosOf('m.created_at')} as created_micros,
  case
    when m.id is not null then case when m.kilo_user_id = e.kilo_user_id
        and m.organization_id is not distinct from e.organization_id
        and m.cost = e.cost
        and m.path = e.path
        and (e.created_at is null or m.created_at = e.created_at)
      then 'duplicate' else 'idempotency_conflict' end
    ${UNKNOWN_ACCOUNTS}
    when e.created_at < ${HORIZON} then 'archived_period'
    else 'absent'
  end as status
from ${REQUEST}
left join exa_usage_log as m on m.id = e.id`;

function valuesOf(usage: ValidExaUsage): unknown[] {
  return [
    [usage.id],
    [usage.kilo_user_id],
    [usage.organization_id],
    [usage.cost],
    [usage.path],
    [usage.created_at],
  ];
}

export function appendExaStatement(
  usage: ValidExaUsage,
  boundsWaitMs: number | null = null,
): Statement {
  const suffix = boundsWaitMs === null ? '' : `_bounded_${boundsWaitMs}`;
  return {
    name: `microdollar_append_exa${suffix}`,
    text: appendText(boundsWaitMs),
    values: valuesOf(usage),
  };
}

export interface ExaConnections {
  connections: Lane;
  /** For a request whose id is in flight elsewhere: it waits beside the others (R11). */
  aside: Lane;
  twins: Twins;
  onRetry: (cause: string) => void;
}

/**
 * Records one Exa request; idempotent by id. Failures of the database are retried, refusals not.
 * @throws LedgerError what the ledger refused
 */
export async function recordExaUsage(
  usage: ValidExaUsage,
  { connections, aside, twins, onRetry }: ExaConnections,
): Promise<RecordedEvent> {
  const through = async (lane: Lane) => {
    const send = <Row>(statement: Statement) =>
      withRetry(() => lane.query<Row>(statement), { splits: true, onRetry });
    const statement = appendExaStatement(usage, lane.boundsWaitMs);
    const [row] = await send<{ created_micros: string }>(statement);
    if (row) {
      const createdAt = usage.created_at ?? formatMicros(row.created_micros);
      return { id: usage.id, created_at: createdAt, status: 'recorded' as const };
    }
    const [met] = await send<ExplainedRow>({
      name: 'microdollar_explain_exa',
      text: EXPLAIN,
      values: valuesOf(usage),
    });
    return toExplained(usage, met ?? { status: 'absent', created_micros: null });
  };
  if (twins.isExpected(usage.id)) return await twins.wait(usage.id, () => through(aside));
  try {
    return await through(connections);
  } catch (error) {
    if (!isHeld(error)) throw error;
    return await twins.wait(usage.id, () => through(aside));
  }
}
