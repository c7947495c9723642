import { LedgerError } from '../../../src/errors.js';
import { validateEvent } from '../../../src/record/event.js';
import type { RecordResult, UsageEvent } from '../../../src/record/types.js';

/** Takes what a ledger takes, by its own validation, and keeps it. */
export class RecordingLedger {
  readonly events: UsageEvent[] = [];
  /** Refuse the next ones. */
  isAway = false;

  get last(): UsageEvent {
    const event = this.events.at(-1);
    if (event === undefined) throw new Error('nothing was recorded');
    return event;
  }

  async recordUsage(event: UsageEvent): Promise<RecordResult> {
    const valid = validateEvent(event, { nulBytesRemoved: 0 });
    if (this.isAway) throw new LedgerError('unavailable', 'away');
    this.events.push(event);
    return {
      id: valid.id,
      created_at: String(valid.created_at),
      status: 'recorded',
      new_microdollars_used: valid.cost,
    };
  }
}
