import { exactIntegers, toExactInteger } from '../money.js';
import { formatMicros } from '../record/instants.sql.js';
import type { AlertKind } from '../schema/alerts.js';

/** An event of the outbox, with what it is about. Amounts in microdollars, as text. */
export interface EventRow {
  event_id: string;
  alert_id: string;
  kind: AlertKind;
  payer_scope: 'user' | 'organization';
  payer_id: string;
  budget_id: string | null;
  budget_scope: string | null;
  budget_period: string | null;
  /** Of a budget of a member. */
  member_id: string | null;
  api_key_id: string | null;
  project_id: string | null;
  window_start_micros: string | null;
  /** Null: it has none. */
  window_end_micros: string | null;
  threshold: string;
  limit_microdollars: string;
  spent_microdollars: string;
  event_created_micros: string;
}

export const EVENT_TYPES = {
  budget: 'budget.threshold_reached',
  balance: 'balance.low',
  spend: 'spend.unusual',
} as const satisfies Record<AlertKind, string>;

/** The body of a delivery: the same bytes at each try. */
export function toBody(event: EventRow): string {
  return bodyOf(EVENT_TYPES[event.kind], formatMicros(event.event_created_micros), {
    ...dataOf(event),
  });
}

export function bodyOf(type: string, timestamp: string, data: object): string {
  return JSON.stringify({ type, timestamp, data }, exactIntegers);
}

function dataOf(event: EventRow): object {
  const [limit, spent] = [BigInt(event.limit_microdollars), BigInt(event.spent_microdollars)];
  const whose = {
    alert_id: event.alert_id,
    kilo_user_id: event.payer_scope === 'user' ? event.payer_id : null,
    organization_id: event.payer_scope === 'organization' ? event.payer_id : null,
  };
  const window = {
    window_start: instantOf(event.window_start_micros),
    window_end: instantOf(event.window_end_micros),
  };
  switch (event.kind) {
    case 'budget':
      return {
        ...whose,
        budget_id: event.budget_id,
        scope: event.budget_scope,
        window: event.budget_period,
        member_id: event.member_id,
        api_key_id: event.api_key_id,
        project_id: event.project_id,
        ...window,
        threshold_percent: Number(event.threshold),
        limit_microdollars: toExactInteger(limit),
        spent_microdollars: toExactInteger(spent),
      };
    case 'balance':
      return {
        ...whose,
        below_microdollars: toExactInteger(event.threshold),
        acquired_microdollars: toExactInteger(limit),
        spent_microdollars: toExactInteger(spent),
        available_microdollars: toExactInteger(limit - spent),
      };
    case 'spend':
      return {
        ...whose,
        ...window,
        threshold_percent: Number(event.threshold),
        usual_microdollars: toExactInteger(limit),
        spent_microdollars: toExactInteger(spent),
      };
  }
}

/** Microseconds since the epoch as ISO 8601. */
export const instantOf = (micros: string | null): string | null =>
  micros === null ? null : formatMicros(micros);
