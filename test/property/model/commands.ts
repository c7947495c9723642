import fc from 'fast-check';
import { Batch, type BatchItem } from './batchCommand.js';
import type { Command, Payment } from './command.js';
import { DAMAGES, Repair, Verify } from './operatorCommands.js';
import { Credit, Fold, Move, Read, SettleAll, SoftDelete, SweepAll } from './otherCommands.js';
import { SESSIONS, USERS } from './program.js';
import {
  CHANGES,
  Conflict,
  Exa,
  RecordEvent,
  RecordOnPool,
  RecordWithoutBalance,
  Replay,
} from './recordCommands.js';
import {
  Begin,
  ENDS,
  End,
  EndSavepoint,
  RecordInTransaction,
  SAVEPOINT_ENDS,
  Savepoint,
} from './sessionCommands.js';

/** The commands of a random program. To add a kind: a class with `check` and `run`, a line below. */
const INSTANTS = [
  '2025-02-28T23:59:59.999999Z',
  '2025-03-01T00:00:00Z',
  '2025-03-01T05:30:00+05:30',
  '2025-03-01T12:34:56.789Z',
  '2025-02-28T20:00:00-05:00',
  null,
] as const;

const by = fc.nat(2);
const which = fc.nat(30);
const session = fc.nat(SESSIONS - 1);
const credit = fc.integer({ min: -500, max: 5000 }).filter((cents) => cents !== 0);
const damage = fc.constantFrom(...(Object.keys(DAMAGES) as (keyof typeof DAMAGES)[]));
const limits = fc.record({
  youngXids: fc.constantFrom(0, 64),
  rowsPerPayer: fc.constantFrom(null, 1, 3),
});
const payment: fc.Arbitrary<Payment> = fc.record({
  user: fc.nat(USERS - 1),
  isOrganization: fc.boolean(),
  cost: fc.oneof(fc.constant(0), fc.integer({ min: -900, max: 3000 }), fc.constant(10 ** 12)),
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

type Weighted = [weight: number, command: fc.Arbitrary<Command>][];

/** Through the ledger alone, so also of one of shards. */
const OF_ANY: Weighted = [
  [4, fc.tuple(by, payment).map((args) => new RecordEvent(...args))],
  [2, fc.tuple(by, payment).map((args) => new RecordWithoutBalance(...args))],
  [3, fc.tuple(by, fc.array(batchItem, { maxLength: 12 })).map((args) => new Batch(...args))],
  [2, fc.tuple(by, which).map((args) => new Replay(...args))],
  [3, fc.tuple(by, payment).map((args) => new Exa(...args))],
  [3, limits.map((arg) => new SettleAll(arg))],
  [1, fc.constant(null).map(() => new SweepAll())],
  [1, fc.constant(null).map(() => new Fold())],
  [1, fc.constant(null).map(() => new Read())],
  [1, fc.nat(USERS - 1).map((user) => new SoftDelete(user))],
  [1, fc.nat(USERS - 1).map((user) => new Verify(user))],
  [1, fc.tuple(fc.nat(USERS), credit).map((args) => new Credit(...args))],
];

const conflict = (changes: readonly (typeof CHANGES)[number][]) =>
  fc.tuple(by, which, fc.constantFrom(...changes)).map((args) => new Conflict(...args));

/** How often each is drawn, against the others: a program is mostly writes, in many ways. */
const OF_ONE: Weighted = [
  ...OF_ANY,
  [4, payment.map((args) => new RecordOnPool(args))],
  [2, conflict(CHANGES)],
  [3, fc.tuple(session, fc.boolean()).map((args) => new Begin(...args))],
  [4, fc.tuple(session, payment).map((args) => new RecordInTransaction(...args))],
  [2, fc.tuple(session, fc.constantFrom(...ENDS)).map((args) => new End(...args))],
  [2, session.map((arg) => new Savepoint(arg))],
  [
    2,
    fc.tuple(session, fc.constantFrom(...SAVEPOINT_ENDS)).map((args) => new EndSavepoint(...args)),
  ],
  [1, fc.tuple(fc.nat(USERS - 1), damage).map((args) => new Repair(...args))],
];

/** An id is known of its payer: the same of another one is another event. */
const OF_SHARDS: Weighted = [
  ...OF_ANY,
  [2, conflict(['cost', 'model', 'time'])],
  [2, fc.tuple(fc.nat(USERS), fc.nat(30)).map((args) => new Move(...args))],
];

const drawn = (weighted: Weighted): fc.Arbitrary<Command>[] =>
  weighted.flatMap(([weight, command]) => Array.from({ length: weight }, () => command));

export const COMMANDS = drawn(OF_ONE);
export const SHARD_COMMANDS = drawn(OF_SHARDS);
