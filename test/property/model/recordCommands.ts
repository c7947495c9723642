import { expect } from 'vitest';
import type { LedgerError } from '../../../src/errors.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../../src/record/onExecutor.js';
import {
  type Command,
  expectAnswer,
  METADATA,
  newEvent,
  otherCost,
  type Payment,
  pick,
  remember,
  writer,
} from './command.js';
import {
  asAnswer,
  balanceOf,
  committed,
  type LedgerModel,
  type ModelEvent,
  payerOf,
} from './ledgerModel.js';
import { type Program, USERS } from './program.js';

export const CHANGES = ['cost', 'user', 'scope', 'model', 'time'] as const;

export class RecordEvent implements Command {
  constructor(
    readonly by: number,
    readonly payment: Payment,
  ) {}
  check = () => true;
  async run(_: LedgerModel, program: Program) {
    const event = newEvent(program, this.payment, null);
    const answer = await writer(program, this.by).recordUsage({
      ...program.toEvent(event),
      metadata: METADATA,
    });
    expectAnswer(program, remember(program, event, answer.created_at), answer, 'recorded');
  }
  toString = () => `record(${this.by}, ${JSON.stringify(this.payment)})`;
}

/**
 * Not asking for the balance; the same event again, on a pool of a host's own where there is one, tells it.
 */
export class RecordWithoutBalance implements Command {
  constructor(
    readonly by: number,
    readonly payment: Payment,
  ) {}
  check = () => true;
  async run(_: LedgerModel, program: Program) {
    const event = newEvent(program, this.payment, null);
    const sent = program.toEvent(event);
    const answer = await writer(program, this.by).recordUsage(sent, { balance: false });
    expect(answer).toEqual({ id: event.id, status: 'recorded', created_at: answer.created_at });
    const remembered = remember(program, event, answer.created_at);
    const replay = await program.world.replay(sent);
    expectAnswer(program, remembered, replay, 'duplicate');
  }
  toString = () => `recordWithoutBalance(${this.by}, ${JSON.stringify(this.payment)})`;
}

/** On a pool of a host's own: in place where the rows are free. */
export class RecordOnPool implements Command {
  constructor(readonly payment: Payment) {}
  check = () => true;
  async run(_: LedgerModel, program: Program) {
    const event = newEvent(program, this.payment, null);
    const answer = await insertUsageAndMetadataWithBalanceUpdate(
      program.world.hostPool,
      program.toEvent(event),
      METADATA,
    );
    expectAnswer(program, remember(program, event, answer.created_at), answer, 'recorded');
  }
  toString = () => `recordOnPool(${JSON.stringify(this.payment)})`;
}

export class Replay implements Command {
  constructor(
    readonly by: number,
    readonly which: number,
  ) {}
  check = (model: Readonly<LedgerModel>) => committed(model).length > 0;
  async run(model: LedgerModel, program: Program) {
    const event = pick(committed(model), this.which);
    if (!event) return;
    const answer = await writer(program, this.by).recordUsage(program.toEvent(event));
    expectAnswer(program, event, answer, 'duplicate');
  }
  toString = () => `replay(${this.by}, ${this.which})`;
}

export class Conflict implements Command {
  constructor(
    readonly by: number,
    readonly which: number,
    readonly change: (typeof CHANGES)[number],
  ) {}
  check = (model: Readonly<LedgerModel>) => committed(model).length > 0;
  async run(model: LedgerModel, program: Program) {
    const event = pick(committed(model), this.which);
    if (!event) return;
    const error = await writer(program, this.by)
      .recordUsage(program.toEvent(change(event, this.change)))
      .then(
        () => null,
        (reason: LedgerError) => reason,
      );
    expect(error).toMatchObject({ code: 'idempotency_conflict' });
  }
  toString = () => `conflict(${this.by}, ${this.which}, ${this.change})`;
}

function change(event: ModelEvent, what: Conflict['change']): ModelEvent {
  switch (what) {
    case 'cost':
      return { ...event, cost: otherCost(event.cost) };
    case 'user':
      return { ...event, user: (event.user + 1) % USERS };
    case 'scope':
      return { ...event, isOrganization: !event.isOrganization };
    case 'model':
      return { ...event, model: event.model === null ? 'another' : null };
    case 'time':
      return { ...event, givenAt: '2024-12-31T23:59:59.999999Z' };
  }
}

export class Exa implements Command {
  constructor(
    readonly by: number,
    readonly payment: Payment,
  ) {}
  check = () => true;
  async run(model: LedgerModel, program: Program) {
    const { user, isOrganization, cost } = this.payment;
    const id = program.newId();
    const usage = {
      id,
      kilo_user_id: program.users[user] ?? '',
      organization_id: isOrganization ? program.organization : null,
      cost: cost % 5000,
      path: '/search',
      created_at: this.payment.givenAt,
    };
    const answer = await writer(program, this.by).recordExaUsage(usage);
    model.exa.push({ ...usage, user, isOrganization, createdAt: answer.created_at });
    const balance = asAnswer(balanceOf(model, payerOf(this.payment)));
    expect(answer).toMatchObject({ id, status: 'recorded', new_microdollars_used: balance });
    const replay = await writer(program, this.by + 1).recordExaUsage(usage);
    expect(replay).toEqual({ ...answer, status: 'duplicate' });
  }
  toString = () => `exa(${this.by}, ${JSON.stringify(this.payment)})`;
}
