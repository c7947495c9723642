import type pg from 'pg';
import type { LookupIds } from './baselines/statements.js';
import type { BenchEvent } from './population.js';
import type { Check, Kind } from './scenario.js';

/** One way to keep the totals; every approach runs on a database of its own. */
export interface ApproachDefinition {
  name: string;
  label: string;
  kind: Kind;
  /** What its user has to accept; empty when nothing. */
  caveat: string;
  /** Calls in flight at once. */
  callers: number;
  /** Default 1. */
  eventsPerCall?: number;
  open(database: ApproachDatabase): Promise<Approach>;
}

export interface ApproachDatabase {
  url: string;
  /** For set-up and checks, not for the measured work. */
  admin: pg.Pool;
  /** The events' lookup values exist already. */
  lookups: LookupIds;
}

export interface Approach {
  /** Resolves when all events are durable. */
  write(events: BenchEvent[]): Promise<unknown>;
  /** Starts work in the background, such as a refresher; a slice begins. */
  resume?(): void;
  /** Brings the totals up to date and stops background work; a slice has ended. */
  settle?(): Promise<void>;
  /** Differences between its totals and raw usage, in words; empty = exact. Settled before. */
  differences(): Promise<string[]>;
  /** Figures of its own, by name with unit. */
  notes?(): Record<string, number>;
  close(): Promise<void>;
}

/** An approach on its database, and what has been acknowledged. */
export interface OpenApproach {
  definition: ApproachDefinition;
  approach: Approach;
  admin: pg.Pool;
  acknowledged: { events: number; costMicrodollars: number };
}

/** After the timing: nothing acknowledged is missing, and the totals equal raw usage. */
export async function checkApproach(open: OpenApproach): Promise<Check> {
  const { definition, approach, admin, acknowledged } = open;
  const result = await admin.query<{ events: string; cost: string }>(
    'select count(*) as events, coalesce(sum(cost), 0) as cost from microdollar_usage',
  );
  const stored = result.rows[0];
  const differences = await approach.differences();
  if (Number(stored?.events) !== acknowledged.events) {
    differences.unshift(`${stored?.events} usage rows, ${acknowledged.events} acknowledged`);
  }
  if (Number(stored?.cost) !== acknowledged.costMicrodollars) {
    differences.unshift(
      `usage rows sum to ${stored?.cost}, acknowledged ${acknowledged.costMicrodollars}`,
    );
  }
  const shown = differences.slice(0, 3).join('; ');
  return {
    name: `${definition.label}: totals equal raw usage`,
    ok: differences.length === 0,
    detail:
      differences.length === 0
        ? `${acknowledged.events} events, ${acknowledged.costMicrodollars} microdollars`
        : `${differences.length} differences: ${shown}`,
  };
}
