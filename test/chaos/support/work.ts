import { setTimeout as sleep } from 'node:timers/promises';
import { LedgerError } from '../../../src/errors.js';
import type { RecordedEvent } from '../../../src/record/types.js';
import type { Random } from '../../faults/support/scale.js';
import { type BookWriter, now, payerKey } from './book.js';
import type { ChaosEvent } from './events.js';

/** What a process of the run works with. */
export interface Work {
  url: string;
  dir: string;
  book: BookWriter;
  random: Random;
  /** When the run began, by the wall clock, ms. */
  startMs: number;
  isOver(): boolean;
}

/** Steps one after the other until the run is over; what a fault breaks is begun again. */
export async function repeat(work: Work, name: string, step: () => Promise<void>): Promise<void> {
  while (!work.isOver()) {
    try {
      await step();
    } catch (error) {
      noteFailure(work, name, error);
      await sleep(100);
    }
  }
}

/** Codes that faults, holders and the archive's horizon explain. */
const EXPECTED_CODES: ReadonlySet<string> = new Set(['unavailable', 'archived_period']);

export function noteFailure({ book }: Work, name: string, error: unknown): void {
  const code = String((error as { code?: unknown }).code ?? (error as Error).message);
  book.done(`${name}: ${code}`);
  const isExpected =
    EXPECTED_CODES.has(code) || (!(error instanceof LedgerError) && isOfConnection(error));
  if (!isExpected) book.problem(`${name}: ${(error as Error).stack?.slice(0, 600)}`);
}

/** SQLSTATE classes of ended servers and of waits given up, and what `pg` and the network say. */
function isOfConnection(error: unknown): boolean {
  const { code = '', message = '' } = error as { code?: string; message?: string };
  return (
    /^(57P0[1-5]|57014|08|55P03|53300|25P0[23]|42704)/.test(code) ||
    /^(ECONN|EPIPE|ETIMEDOUT)/.test(code) ||
    /[Cc]onnection|timeout|not queryable/.test(message)
  );
}

export function noteSent({ book }: Work, kind: 'usage' | 'exa', event: ChaosEvent): void {
  book.note({
    what: 'sent',
    at: now(),
    kind,
    id: event.id,
    user: event.kilo_user_id,
    organization: event.organization_id,
    cost: event.cost,
  });
}

export interface Given extends RecordedEvent {
  new_microdollars_used?: number | bigint | null;
}

/** An answer, and the balance in it: of what was committed by `from`, and of the caller's own. */
export function noteAnswer(
  { book }: Work,
  way: string,
  event: ChaosEvent,
  answer: Given,
  { from, own = [event.id] }: { from: number; own?: readonly string[] },
): void {
  if (answer.id !== event.id) book.problem(`${way}: ${event.id} answered as ${answer.id}`);
  const at = now();
  const { id, status, created_at: createdAt, new_microdollars_used: balance } = answer;
  book.note({ what: 'answered', at, way, id, status, createdAt });
  if (balance === undefined || balance === null) return;
  const key = payerKey({ user: event.kilo_user_id, organization: event.organization_id });
  book.note({ what: 'total', from, at, way, key, total: String(balance), own: [...own] });
}
