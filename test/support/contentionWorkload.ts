import type { UsageEvent } from '../../src/record/types.js';

/** One round of the contention test: who writes what, the same in every process. */
export interface ContentionJob {
  /** Makes the ids of a round its own: eight hexadecimal digits. */
  round: string;
  users: number;
  organizationIds: readonly string[];
  /** Share of events paid by an organization, 0 to 1. */
  organizationShare: number;
  processes: number;
  callers: number;
  eventsPerCaller: number;
  /**
   * `afterAnswer`: a duplicate is sent once its first copy was answered, so that no write has
   * a reason to wait for anything at all. `twins`: every process sends the same events at once,
   * single and in batches, in different orders.
   */
  duplicates: 'afterAnswer' | 'twins';
  /** Default: a ledger that answers balances. `pool`: one of a host's own, and no ledger. */
  through?: 'ledger without balances' | 'pool';
  appendAlways?: boolean;
  groupCommit?: boolean;
}

/** UTC midnight between two days; events fall within a second of it. */
const MIDNIGHT_MS = Date.UTC(2025, 2, 9);
/** Zero, refunds and ordinary costs. */
const COSTS = [0, 1, -1, 250, 99_999, -30_000, 1_234_567, 0, 17, 42] as const;

export const userId = (round: string, index: number) => `${round} user ${index}`;

/** Small deterministic hash: the same event for the same number in every process. */
function mix(number: number): number {
  let hash = Math.imul(number ^ 0x9e3779b9, 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Event number `index` of the round. */
export function eventOf(job: ContentionJob, index: number): UsageEvent & { id: string } {
  const hash = mix(index + 1);
  const isOrganization =
    job.organizationIds.length > 0 && (hash % 1000) / 1000 < job.organizationShare;
  // Ids in no order, as from many gateways.
  const tail = (BigInt(hash) * 0x10000n + BigInt(index % 0x10000)).toString(16).padStart(12, '0');
  const high = Math.floor(index / 0x10000)
    .toString(16)
    .padStart(4, '0');
  const aroundMidnightMs = MIDNIGHT_MS + ((hash >>> 8) % 2000) - 1000;
  return {
    id: `${job.round}-${high}-4000-8000-${tail}`,
    kilo_user_id: userId(job.round, (hash >>> 4) % job.users),
    organization_id: isOrganization
      ? (job.organizationIds[hash % job.organizationIds.length] ?? null)
      : null,
    cost: COSTS[(hash >>> 12) % COSTS.length] ?? 0,
    created_at: new Date(aroundMidnightMs).toISOString(),
    model: 'm',
  };
}

/** Numbers of the events a process sends: all of them as twins, else its own share. */
export function eventRange(job: ContentionJob, process: number): { from: number; until: number } {
  const perProcess = job.callers * job.eventsPerCaller;
  if (job.duplicates === 'twins') return { from: 0, until: perProcess };
  return { from: process * perProcess, until: (process + 1) * perProcess };
}

export function distinctEvents(job: ContentionJob): number {
  const perProcess = job.callers * job.eventsPerCaller;
  return job.duplicates === 'twins' ? perProcess : perProcess * job.processes;
}

/** One event in this many is sent again. */
export const DUPLICATE_EVERY = 8;

/** Answers that must say `duplicate`, in all processes together. */
export function expectedDuplicates(job: ContentionJob): number {
  const distinct = distinctEvents(job);
  if (job.duplicates === 'twins') return distinct * (job.processes - 1);
  return Math.ceil(distinct / DUPLICATE_EVERY);
}

export interface WorkerReport {
  recorded: number;
  duplicates: number;
  /** Messages of calls that were refused or answered wrongly; must be none. */
  errors: string[];
  /** SQLSTATE of statements that were sent again. */
  retries: Record<string, number>;
  /** Of the process's time zone, minutes behind UTC in January 1970. */
  offsetMinutes: number;
  sessionTimeZone: string;
}
