import fc from 'fast-check';
import { expect } from 'vitest';
import { addCredit } from '../../../src/accounts/credits.js';
import { softDeleteUser } from '../../../src/accounts/softDelete.js';
import type { LedgerError } from '../../../src/errors.js';
import type { Ledger } from '../../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../../src/record/onExecutor.js';
import type { BatchResult, RecordResult } from '../../../src/record/types.js';
import {
  areLocksHeld,
  balanceOf,
  committed,
  hasOpenSession,
  type LedgerModel,
  type ModelEvent,
  payerOf,
} from './ledgerModel.js';
import { compareReports, type Program, SESSIONS, USERS } from './world.js';

type Command = fc.AsyncCommand<LedgerModel, Program>;

interface Payment {
  user: number;
  isOrganization: boolean;
  cost: number;
  givenAt: string | null;
  model: string | null;
}

const METADATA = { user_prompt_prefix: 'personal', feature: 'chat', latency: 1 };

const writer = (program: Program, index: number): Ledger => {
  const ledger = program.world.writers[index % program.world.writers.length];
  if (!ledger) throw new Error('no writer');
  return ledger;
};

/** Any element by a number that shrinks; undefined when there is none. */
const pick = <T>(items: readonly T[], index: number): T | undefined =>
  items[index % Math.max(1, items.length)];

function expectAnswer(program: Program, event: ModelEvent, answer: RecordResult, status: string) {
  expect(answer).toMatchObject({ id: event.id, status, created_at: event.createdAt });
  const balance = balanceOf(program.model, payerOf(event), event.session);
  expect(answer.new_microdollars_used).toBe(balance);
}

/** Adds a recorded event to the model; its time is what the ledger answered. */
function remember(program: Program, event: ModelEvent, createdAt: string): ModelEvent {
  if (event.givenAt !== null) {
    expect(Date.parse(createdAt)).toBe(Date.parse(event.givenAt));
  }
  const remembered = { ...event, createdAt };
  program.model.events.push(remembered);
  return remembered;
}

const newEvent = (program: Program, payment: Payment, session: number | null): ModelEvent => ({
  ...payment,
  id: program.newId(),
  createdAt: '',
  session,
});

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

class Replay implements Command {
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

class Conflict implements Command {
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
      return { ...event, cost: event.cost + 1 };
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

interface NewItem {
  kind: 'new' | 'invalid' | 'unknown';
  payment: Payment;
}

interface OldItem {
  kind: 'replay' | 'conflict' | 'repeat';
  which: number;
}

type BatchItem = NewItem | OldItem;

/** New, replayed, conflicting, invalid events and repeats of the same batch, in any order. */
class Batch implements Command {
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
        sent.push({ event, status, change: isConflict ? { cost: event.cost + 1 } : {} });
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

class Begin implements Command {
  constructor(
    readonly session: number,
    readonly holdsLocks: boolean,
  ) {}
  check = (model: Readonly<LedgerModel>) =>
    !model.sessions[this.session]?.isOpen && !(this.holdsLocks && areLocksHeld(model));
  async run(model: LedgerModel, { sessions, users, organization }: Program) {
    const session = sessions[this.session];
    await session?.query('begin');
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
    model.sessions[this.session] = { isOpen: true, holdsLocks: this.holdsLocks };
  }
  toString = () => `begin(${this.session}, ${this.holdsLocks ? 'locks' : ''})`;
}

class RecordInTransaction implements Command {
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

class End implements Command {
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
    model.sessions[this.session] = { isOpen: false, holdsLocks: false };
  }
  toString = () => `${this.how}(${this.session})`;
}

class Fold implements Command {
  check = () => true;
  async run(model: LedgerModel, program: Program) {
    const report = await writer(program, 0).fold();
    if (!areLocksHeld(model)) expect(report.remaining).toBe(0);
  }
  toString = () => 'fold';
}

/** Waits for writes in flight, so only when there are none here. */
class SoftDelete implements Command {
  constructor(readonly user: number) {}
  check = (model: Readonly<LedgerModel>) => !hasOpenSession(model);
  async run(model: LedgerModel, { world, users }: Program) {
    await softDeleteUser(world.database.pool, users[this.user] ?? '');
    model.deleted.add(this.user);
  }
  toString = () => `softDelete(${this.user})`;
}

class Exa implements Command {
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
    const balance = balanceOf(model, payerOf(this.payment));
    expect(answer).toMatchObject({ id, status: 'recorded', new_microdollars_used: balance });
    const replay = await writer(program, this.by + 1).recordExaUsage(usage);
    expect(replay).toEqual({ ...answer, status: 'duplicate' });
  }
  toString = () => `exa(${this.by}, ${JSON.stringify(this.payment)})`;
}

class Credit implements Command {
  constructor(
    readonly payer: number,
    readonly cents: number,
  ) {}
  // A credit is no usage write: it waits for who holds its row.
  check = (model: Readonly<LedgerModel>) => !areLocksHeld(model);
  async run(model: LedgerModel, { world, users, organization }: Program) {
    const isOrganization = this.payer >= users.length;
    await addCredit(world.database.pool, {
      ...(isOrganization
        ? { organization_id: organization }
        : { kilo_user_id: users[this.payer] ?? '' }),
      usd: this.cents / 100,
    });
    const key = isOrganization ? 'organization' : String(this.payer);
    model.credits.set(key, (model.credits.get(key) ?? 0) + this.cents * 10_000);
  }
  toString = () => `credit(${this.payer}, ${this.cents})`;
}

class Read implements Command {
  check = () => true;
  async run(_: LedgerModel, program: Program) {
    await compareReports(program);
  }
  toString = () => 'read';
}

const CHANGES = ['cost', 'user', 'scope', 'model', 'time'] as const;
const ENDS = ['commit', 'rollback'] as const;
const INSTANTS = [
  '2025-02-28T23:59:59.999999Z',
  '2025-03-01T00:00:00Z',
  '2025-03-01T05:30:00+05:30',
  '2025-03-01T12:34:56.789Z',
  '2025-03-31T20:00:00-05:00',
  null,
] as const;

const by = fc.nat(2);
const which = fc.nat(30);
const session = fc.nat(SESSIONS - 1);
const payment: fc.Arbitrary<Payment> = fc.record({
  user: fc.nat(USERS - 1),
  isOrganization: fc.boolean(),
  cost: fc.oneof(fc.constant(0), fc.integer({ min: -900, max: 3000 }), fc.constant(2 ** 40)),
  givenAt: fc.constantFrom(...INSTANTS),
  model: fc.constantFrom(null, 'm'),
});

const batchItem: fc.Arbitrary<BatchItem> = fc.oneof(
  { arbitrary: fc.record({ kind: fc.constant('new' as const), payment }), weight: 5 },
  {
    arbitrary: fc.record({ kind: fc.constantFrom('replay' as const, 'conflict', 'repeat'), which }),
    weight: 2,
  },
  {
    arbitrary: fc.record({ kind: fc.constantFrom('invalid' as const, 'unknown'), payment }),
    weight: 1,
  },
);

/** How often each is drawn, against the others: a program is mostly writes, in many ways. */
const WEIGHTED: [weight: number, command: fc.Arbitrary<Command>][] = [
  [4, fc.tuple(by, payment).map((args) => new RecordEvent(...args))],
  [3, fc.tuple(by, fc.array(batchItem, { maxLength: 12 })).map((args) => new Batch(...args))],
  [2, fc.tuple(by, which).map((args) => new Replay(...args))],
  [2, fc.tuple(by, which, fc.constantFrom(...CHANGES)).map((args) => new Conflict(...args))],
  [3, fc.tuple(by, payment).map((args) => new Exa(...args))],
  [3, fc.tuple(session, fc.boolean()).map((args) => new Begin(...args))],
  [4, fc.tuple(session, payment).map((args) => new RecordInTransaction(...args))],
  [2, fc.tuple(session, fc.constantFrom(...ENDS)).map((args) => new End(...args))],
  [1, fc.constant(null).map(() => new Fold())],
  [1, fc.constant(null).map(() => new Read())],
  [1, fc.nat(USERS - 1).map((user) => new SoftDelete(user))],
  [1, fc.tuple(fc.nat(USERS), fc.integer({ min: -500, max: 5000 })).map((a) => new Credit(...a))],
];

export const COMMANDS: fc.Arbitrary<Command>[] = WEIGHTED.flatMap(([weight, command]) =>
  Array.from({ length: weight }, () => command),
);
