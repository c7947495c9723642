import type { Pool } from 'pg';
import { LedgerError } from '../errors.js';
import { type ValidEvent, validateEvent } from '../record/event.js';
import { type ExplainedRow, explainUsageStatement } from '../record/explainUsage.sql.js';
import { toExplained } from '../record/outcome.js';
import { Occurrences } from './occurrences.js';
import { sha256 } from './rowIds.js';
import type { EventSink, LineOutcome } from './sinks.js';

/**
 * Says what would become of events, and writes nothing: `recorded` stands for what is not there yet.
 * @param createsAccounts users and organizations that do not exist would be created
 */
export function dryRunSink(
  pool: Pool,
  { createsAccounts }: { createsAccounts: boolean },
): EventSink {
  const ids = new Occurrences();
  const contents = new Occurrences();
  const judge = (event: ValidEvent, row: ExplainedRow): LineOutcome => {
    const isUnknown = row.status === 'unknown_user' || row.status === 'unknown_organization';
    if (row.status === 'absent' || (isUnknown && createsAccounts)) {
      const isFirst = ids.count(sha256(event.id)) === 1;
      const isSame = contents.count(sha256(JSON.stringify(contentOf(event)))) > 1;
      if (isFirst) return { status: 'recorded' };
      return isSame ? { status: 'duplicate' } : explain(event, 'idempotency_conflict');
    }
    return explain(event, row.status);
  };
  return async (events) => {
    const outcomes: LineOutcome[] = events.map(() => ({ status: 'recorded' }));
    const valid = events.flatMap((event, index) => {
      try {
        return [{ index, event: validateEvent(event, { nulBytesRemoved: 0 }) }];
      } catch (error) {
        outcomes[index] = toRejection(error);
        return [];
      }
    });
    for (const part of withUniqueIds(valid)) {
      const { rows } = await pool.query<ExplainedRow>(
        explainUsageStatement(part.map(({ event }) => event)),
      );
      const rowOf = new Map(rows.map((row) => [row.id, row]));
      for (const { index, event } of part) {
        const row = rowOf.get(event.id);
        if (row === undefined) throw new Error('explain returned no row for an event');
        outcomes[index] = judge(event, row);
      }
    }
    return outcomes;
  };
}

/** Parts in which no id occurs twice: rows of the answer are told apart by it. */
function withUniqueIds<T extends { event: ValidEvent }>(items: readonly T[]): T[][] {
  const occurrences = new Map<string, number>();
  const parts: T[][] = [];
  for (const item of items) {
    const part = occurrences.get(item.event.id) ?? 0;
    occurrences.set(item.event.id, part + 1);
    parts[part] ??= [];
    parts[part].push(item);
  }
  return parts;
}

function explain(event: ValidEvent, status: ExplainedRow['status']): LineOutcome {
  try {
    toExplained(event, { status, created_micros: null });
    return { status: 'duplicate' };
  } catch (error) {
    return toRejection(error);
  }
}

/** What a replay must repeat (I3), with the id. */
function contentOf(event: ValidEvent): unknown[] {
  return [
    event.id,
    event.kilo_user_id,
    event.organization_id,
    event.cost,
    event.input_tokens,
    event.output_tokens,
    event.cache_write_tokens,
    event.cache_hit_tokens,
    event.provider,
    event.model,
    event.requested_model,
    event.created_at,
  ];
}

function toRejection(error: unknown): LineOutcome {
  if (!(error instanceof LedgerError)) throw error;
  return { status: 'rejected', code: error.code, reason: error.message };
}
