import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { onTestFinished } from 'vitest';
import { LedgerError } from '../../../src/errors.js';
import { setExaAllowance } from '../../support/exaAllowance.js';
import {
  type Answer,
  type ClientBook,
  EXA_ALLOWANCE_MICRODOLLARS,
  type SentEvent,
} from './clientBook.js';
import type { Random } from './scale.js';

/** One way to the ledger. One outcome per event, in order; rejects when the whole call failed. */
export type Send = (events: readonly SentEvent[]) => Promise<(Answer | Error)[]>;

/** A failure after which the client must not know more than "perhaps": it sends again. */
export class Ambiguous extends Error {}

export interface TrafficOptions {
  book: ClientBook;
  random: Random;
  accounts: Accounts;
  clients: number;
  send: Send;
  /** Events in one call at most. Default 1. */
  maxBatch?: number;
  /** Exa requests too. Default false. */
  exa?: boolean;
}

export interface Traffic {
  /** No new events; ends when every client has its answers, or has given up on purpose. */
  stop(): Promise<void>;
}

export interface Accounts {
  users: readonly string[];
  organizations: readonly string[];
}

/** One hot user and one hot organization among others: every path of the write is taken. */
export async function createAccounts(pool: pg.Pool): Promise<Accounts> {
  await setExaAllowance(pool, EXA_ALLOWANCE_MICRODOLLARS);
  return insertAccounts(pool);
}

/** The same in a database of any version. */
export async function insertAccounts(pool: pg.Pool): Promise<Accounts> {
  const users = Array.from({ length: 12 }, (_, index) => `user ${index} ${randomUUID()}`);
  await pool.query('insert into kilocode_users (id) select unnest($1::text[])', [users]);
  const { rows } = await pool.query<{ id: string }>(
    `insert into organizations (name) values ('a'), ('b') returning id`,
  );
  const organizations = rows.map((row) => row.id);
  await pool.query(
    `insert into organization_memberships (organization_id, kilo_user_id)
    select o, u from unnest($1::uuid[]) as o, unnest($2::text[]) as u`,
    [organizations, users],
  );
  return { users, organizations };
}

const COSTS = [0, 1, -1, 250, 99_999, -30_000, 1_234_567, 17] as const;
const DAY_MS = 86_400_000;
/** Of events, sent once more though answered. */
const REPEAT_SHARE = 0.1;
/** Of events, never sent again after a failure. */
const GIVE_UP_SHARE = 0.02;

type Draw = Pick<TrafficOptions, 'random' | 'accounts' | 'exa'>;

export function drawEvent({ random, accounts, exa = false }: Draw): SentEvent {
  const isHot = random.next() < 0.5;
  const kiloUserId = isHot ? (accounts.users[0] as string) : random.pick(accounts.users);
  const organizationId = random.next() < 0.3 ? random.pick(accounts.organizations) : null;
  const event: SentEvent = {
    kind: exa && random.next() < 0.2 ? 'exa' : 'usage',
    id: randomUUID(),
    kilo_user_id: kiloUserId,
    organization_id: organizationId,
    cost: random.pick(COSTS),
  };
  if (event.kind === 'exa') event.cost = Math.abs(event.cost);
  // Half of them say when; of those, days of the past, of which some are new to the rollup.
  if (random.next() < 0.5) {
    event.created_at = new Date(Date.now() - random.between(0, 5) * DAY_MS).toISOString();
  }
  return event;
}

export function startTraffic(options: TrafficOptions): Traffic {
  let isStopped = false;
  const isOver = watchTestEnd();
  const client = async () => {
    while (!isStopped && !isOver()) {
      const count = options.random.between(1, (options.maxBatch ?? 1) + 1);
      const events = Array.from({ length: count }, () => drawEvent(options));
      const answered = await sendUntilAnswered(options, isOver, events);
      const again = answered.filter(() => options.random.next() < REPEAT_SHARE);
      if (again.length > 0) await sendUntilAnswered(options, isOver, again, true);
      await sleep(options.random.between(0, 8));
    }
  };
  const clients = Array.from({ length: options.clients }, client);
  // A client that throws is a mistake of the suite: seen by `stop`, not as an unhandled rejection.
  for (const each of clients) each.catch(() => {});
  return {
    async stop() {
      isStopped = true;
      await Promise.all(clients);
    },
  };
}

/** Sends the same events until each is answered or refused for good. @returns the answered */
async function sendUntilAnswered(
  { book, random, send }: TrafficOptions,
  isOver: () => boolean,
  events: readonly SentEvent[],
  isRepeat = false,
): Promise<SentEvent[]> {
  for (const event of events) book.send(event);
  const answered: SentEvent[] = [];
  let open = [...events];
  for (let attempt = 0; open.length > 0 && !isOver(); attempt++) {
    const outcomes = await send(open).catch((error: Error) => open.map(() => error));
    const failed: SentEvent[] = [];
    open.forEach((event, index) => {
      const outcome = outcomes[index] ?? new Ambiguous('no outcome');
      if (!(outcome instanceof Error)) {
        if (outcome.id !== event.id) book.problems.push(`${event.id}: answered as ${outcome.id}`);
        book.acknowledge(outcome, { isRepeat });
        answered.push(event);
      } else if (isWorthRetrying(outcome)) failed.push(event);
      else book.problems.push(`${event.id}: ${outcome.name} ${outcome.message}`);
    });
    open = failed.filter(() => isRepeat || random.next() >= GIVE_UP_SHARE);
    if (open.length > 0) await sleep(random.between(5, 10 + 20 * Math.min(attempt, 10)));
  }
  return answered;
}

function isWorthRetrying(error: Error): boolean {
  return error instanceof Ambiguous || (error instanceof LedgerError && error.retryable);
}

/** The ledger answers again, so that the next fault finds writes in flight. */
export async function untilMoreAnswers(book: ClientBook, count = 20): Promise<void> {
  const before = book.acknowledged;
  const isOver = watchTestEnd();
  const isDone = () => book.acknowledged >= before + count || book.problems.length > 0;
  while (!isDone() && !isOver()) await sleep(10);
}

/** A test that fails or runs out of time leaves nobody behind who sends for ever. */
function watchTestEnd(): () => boolean {
  let isOver = false;
  onTestFinished(() => {
    isOver = true;
  });
  return () => isOver;
}
