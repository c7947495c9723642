import type fc from 'fast-check';
import { expect } from 'vitest';
import type { Ledger } from '../../../src/ledgerTypes.js';
import type { RecordResult } from '../../../src/record/types.js';
import { asAnswer, balanceOf, type LedgerModel, type ModelEvent, payerOf } from './ledgerModel.js';
import type { Program } from './program.js';

export type Command = fc.AsyncCommand<LedgerModel, Program>;

export interface Payment {
  user: number;
  isOrganization: boolean;
  cost: number;
  givenAt: string | null;
  model: string | null;
}

export const METADATA = { user_prompt_prefix: 'personal', feature: 'chat', latency: 1 };

export const writer = (program: Program, index: number): Ledger => {
  const ledger = program.world.writers[index % program.world.writers.length];
  if (!ledger) throw new Error('no writer');
  return ledger;
};

/** Another cost, within bounds. */
export const otherCost = (cost: number) => (cost > 0 ? cost - 1 : cost + 1);

/** Any element by a number that shrinks; undefined when there is none. */
export const pick = <T>(items: readonly T[], index: number): T | undefined =>
  items[index % Math.max(1, items.length)];

export function expectAnswer(
  program: Program,
  event: ModelEvent,
  answer: RecordResult,
  status: string,
) {
  expect(answer).toMatchObject({ id: event.id, status, created_at: event.createdAt });
  const balance = balanceOf(program.model, payerOf(event), event.session);
  expect(answer.new_microdollars_used).toBe(asAnswer(balance));
}

/** Adds a recorded event to the model; its time is what the ledger answered. */
export function remember(program: Program, event: ModelEvent, createdAt: string): ModelEvent {
  if (event.givenAt !== null) {
    expect(Date.parse(createdAt)).toBe(Date.parse(event.givenAt));
  }
  const remembered = { ...event, createdAt };
  program.model.events.push(remembered);
  return remembered;
}

export const newEvent = (
  program: Program,
  payment: Payment,
  session: number | null,
): ModelEvent => ({
  ...payment,
  id: program.newId(),
  createdAt: '',
  session,
  savepoints: session === null ? 0 : (program.model.sessions[session]?.savepoints ?? 0),
});
