import { insertUsageAndMetadataWithBalanceUpdate } from '../../../src/record/onExecutor.js';
import {
  type Command,
  expectAnswer,
  METADATA,
  newEvent,
  type Payment,
  remember,
} from './command.js';
import { areLocksHeld, CLOSED, type LedgerModel, type ModelEvent } from './ledgerModel.js';
import type { Program } from './program.js';

export const ENDS = ['commit', 'rollback'] as const;

export class Begin implements Command {
  constructor(
    readonly session: number,
    readonly holdsLocks: boolean,
  ) {}
  check = (model: Readonly<LedgerModel>) =>
    !model.sessions[this.session]?.isOpen && !(this.holdsLocks && areLocksHeld(model));
  async run(model: LedgerModel, { sessions, users, organization }: Program) {
    const session = sessions[this.session];
    await session?.query('begin');
    model.sessions[this.session] = { isOpen: true, holdsLocks: this.holdsLocks, savepoints: 0 };
    if (this.holdsLocks) {
      for (const [text, values] of [
        ['select from kilocode_users where id = any($1) order by id for update', [users]],
        ['select from organizations where id = $1 for update', [organization]],
        ['select from microdollar_usage_daily where kilo_user_id = any($1) for update', [users]],
        ['select from exa_monthly_usage where kilo_user_id = any($1) for update', [users]],
      ] as const) {
        await session?.query(text, [...values]);
      }
    }
  }
  toString = () => `begin(${this.session}, ${this.holdsLocks ? 'locks' : ''})`;
}

export class RecordInTransaction implements Command {
  constructor(
    readonly session: number,
    readonly payment: Payment,
  ) {}
  check = (model: Readonly<LedgerModel>) => model.sessions[this.session]?.isOpen ?? false;
  async run(_: LedgerModel, program: Program) {
    const client = program.sessions[this.session];
    if (!client) return;
    const event = newEvent(program, this.payment, this.session);
    const answer = await insertUsageAndMetadataWithBalanceUpdate(
      client,
      program.toEvent(event),
      METADATA,
    );
    expectAnswer(program, remember(program, event, answer.created_at), answer, 'recorded');
  }
  toString = () => `recordInTransaction(${this.session}, ${JSON.stringify(this.payment)})`;
}

export class Savepoint implements Command {
  constructor(readonly session: number) {}
  check = (model: Readonly<LedgerModel>) => model.sessions[this.session]?.isOpen ?? false;
  async run(model: LedgerModel, { sessions }: Program) {
    const session = model.sessions[this.session];
    if (!session) return;
    session.savepoints++;
    await sessions[this.session]?.query(`savepoint s${session.savepoints}`);
  }
  toString = () => `savepoint(${this.session})`;
}

export const SAVEPOINT_ENDS = ['rollback to', 'release'] as const;

/** What was written since the last savepoint is gone, or belongs to what is around it. */
export class EndSavepoint implements Command {
  constructor(
    readonly session: number,
    readonly how: (typeof SAVEPOINT_ENDS)[number],
  ) {}
  check = (model: Readonly<LedgerModel>) => (model.sessions[this.session]?.savepoints ?? 0) > 0;
  async run(model: LedgerModel, { sessions }: Program) {
    const session = model.sessions[this.session];
    if (!session) return;
    const last = session.savepoints;
    await sessions[this.session]?.query(`${this.how} savepoint s${last}`);
    const isSince = (event: ModelEvent) =>
      event.session === this.session && event.savepoints >= last;
    if (this.how === 'rollback to') {
      model.events = model.events.filter((event) => !isSince(event));
      return;
    }
    session.savepoints--;
    for (const event of model.events.filter(isSince)) event.savepoints = session.savepoints;
  }
  toString = () => `${this.how}(${this.session})`;
}

export class End implements Command {
  constructor(
    readonly session: number,
    readonly how: (typeof ENDS)[number],
  ) {}
  check = (model: Readonly<LedgerModel>) => model.sessions[this.session]?.isOpen ?? false;
  async run(model: LedgerModel, { sessions }: Program) {
    await sessions[this.session]?.query(this.how);
    const own = (event: ModelEvent) => event.session === this.session;
    if (this.how === 'rollback') model.events = model.events.filter((event) => !own(event));
    else for (const event of model.events.filter(own)) event.session = null;
    model.sessions[this.session] = { ...CLOSED };
  }
  toString = () => `${this.how}(${this.session})`;
}
