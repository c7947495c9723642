import { expect } from 'vitest';
import type { BatchResult, RecordResult } from '../../../src/record/types.js';
import {
  type Command,
  newEvent,
  otherCost,
  type Payment,
  pick,
  remember,
  writer,
} from './command.js';
import { compareReports } from './compare.js';
import { committed, type LedgerModel, type ModelEvent } from './ledgerModel.js';
import type { Program } from './program.js';

export interface NewItem {
  kind: 'new' | 'invalid' | 'unknown';
  payment: Payment;
}

export interface OldItem {
  kind: 'replay' | 'conflict' | 'repeat';
  which: number;
}

export type BatchItem = NewItem | OldItem;

/** New, replayed, conflicting, invalid events and repeats of the same batch, in any order. */
export class Batch implements Command {
  constructor(
    readonly by: number,
    readonly items: readonly BatchItem[],
  ) {}
  check = () => true;
  async run(model: LedgerModel, program: Program) {
    const known = committed(model);
    const fresh: ModelEvent[] = [];
    const sent: { event: ModelEvent; status: string; change: object }[] = [];
    for (const item of this.items) {
      if ('which' in item) {
        const event = pick(item.kind === 'repeat' ? fresh : known, item.which);
        if (!event) continue;
        const isConflict = item.kind === 'conflict';
        const status = isConflict ? 'rejected' : 'duplicate';
        sent.push({ event, status, change: isConflict ? { cost: otherCost(event.cost) } : {} });
      } else {
        const event = newEvent(program, item.payment, null);
        if (item.kind === 'new') fresh.push(event);
        const status = item.kind === 'new' ? 'recorded' : 'rejected';
        const changes = { new: {}, invalid: { cost: 0.5 }, unknown: { kilo_user_id: 'nobody' } };
        sent.push({ event, status, change: changes[item.kind] });
      }
    }
    const results = await writer(program, this.by).recordUsageBatch(
      sent.map(({ event, change }) => ({ ...program.toEvent(event), ...change })),
    );
    // Which of two copies in one batch comes first is not told: one is recorded, the others not.
    const outcomes = (entries: readonly { status: string }[]) =>
      entries.map(({ status }, index) => `${sent[index]?.event.id} ${status}`).sort();
    expect(outcomes(results)).toEqual(outcomes(sent));
    const answers = new Map<string, BatchResult>();
    for (const result of results) {
      if (result.status === 'recorded') answers.set(result.id, result);
    }
    for (const event of fresh) {
      remember(program, event, (answers.get(event.id) as RecordResult).created_at);
    }
    await compareReports(program);
  }
  toString = () => `batch(${this.by}, ${JSON.stringify(this.items)})`;
}
