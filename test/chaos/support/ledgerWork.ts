import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { LedgerError } from '../../../src/errors.js';
import { createLedger } from '../../../src/ledger.js';
import type { Ledger, LedgerOptions } from '../../../src/ledgerTypes.js';
import { dayKey, now, payerKey } from './book.js';
import { HOT, ORGANIZATIONS, PEOPLE } from './cast.js';
import { type ChaosEvent, drawBadEvent, drawEvent, drawMetadata, utcDay } from './events.js';
import { type Given, noteAnswer, noteFailure, noteSent, repeat, type Work } from './work.js';

const CALLERS = 10;
/** Of refused retries, how often a caller gives up for good. */
const GIVE_UP_SHARE = 0.2;

/** A process with a ledger of its own: every call of the library, many callers at once. */
export async function runLedger(work: Work, options: Omit<LedgerOptions, 'databaseUrl'>) {
  const ledger = await openLedger(work, options);
  if (!ledger) return;
  const steppingClock = repeat(work, 'clock', () => stepClock(work));
  const callers = Array.from({ length: CALLERS }, () => {
    const caller = new Caller(work, ledger);
    return repeat(work, 'caller', () => caller.step());
  });
  await Promise.all([...callers, steppingClock]);
  await ledger.close();
}

export async function openLedger(
  work: Work,
  options: Omit<LedgerOptions, 'databaseUrl'>,
): Promise<Ledger | null> {
  while (!work.isOver()) {
    try {
      return await createLedger({ databaseUrl: work.url, ...options });
    } catch (error) {
      noteFailure(work, 'open', error);
      await sleep(100);
    }
  }
  return null;
}

const trueNow = Date.now.bind(Date);

/** The process's wall clock jumps, either way, by less than what an event may be ahead. */
async function stepClock({ random }: Work): Promise<void> {
  await sleep(random.between(500, 3_000));
  const offset = random.between(-240_000, 240_000);
  Date.now = () => trueNow() + offset;
}

class Caller {
  readonly #work: Work;
  readonly #ledger: Ledger;
  #last: ChaosEvent | null = null;
  readonly #steps: readonly [number, () => Promise<void>][];

  constructor(work: Work, ledger: Ledger) {
    this.#work = work;
    this.#ledger = ledger;
    this.#steps = [
      [0.3, () => this.#one(true)],
      [0.5, () => this.#one(false)],
      [0.65, () => this.#batch()],
      [0.72, () => this.#again()],
      [0.78, () => this.#conflict()],
      [0.86, () => this.#exa()],
      [0.9, () => this.#bad()],
      [0.96, () => this.#readBalance()],
      [1, () => this.#readDay()],
    ];
  }

  async step(): Promise<void> {
    const { random } = this.#work;
    const drawn = random.next();
    await this.#steps.find(([until]) => drawn < until)?.[1]();
    await sleep(random.between(0, 12));
  }

  async #one(withBalance: boolean): Promise<void> {
    const { random, startMs } = this.#work;
    const event = { ...drawEvent(random, startMs) };
    const metadata = drawMetadata(random);
    const way = withBalance ? 'one' : 'without balance';
    await this.#send(way, event, () =>
      withBalance
        ? this.#ledger.recordUsage({ ...event, metadata })
        : this.#ledger.recordUsage({ ...event, metadata }, { balance: false }),
    );
  }

  async #exa(): Promise<void> {
    const { random, startMs } = this.#work;
    const cost = random.between(-5_000, 60_000);
    const request = { ...drawEvent(random, startMs), id: randomUUID(), cost };
    const send = () => this.#ledger.recordExaUsage({ ...request, path: '/search' });
    await this.#send('exa', request, send, 'exa');
  }

  /** Until it is answered or refused, or the caller gives up. */
  async #send(
    way: string,
    event: ChaosEvent,
    send: () => Promise<Given>,
    kind: 'usage' | 'exa' = 'usage',
  ): Promise<void> {
    noteSent(this.#work, kind, event);
    for (;;) {
      const from = now();
      try {
        noteAnswer(this.#work, way, event, await send(), { from });
        if (kind === 'usage') this.#last = event;
        return;
      } catch (error) {
        noteFailure(this.#work, way, error);
        if (!(error instanceof LedgerError) || !error.retryable) return;
        if (this.#work.random.next() < GIVE_UP_SHARE) return;
        await sleep(50);
      }
    }
  }

  async #batch(): Promise<void> {
    const { random, startMs, book } = this.#work;
    const drawn = Array.from({ length: random.between(1, 40) }, () =>
      random.next() < 0.05 ? drawBadEvent(random, startMs) : drawEvent(random, startMs),
    );
    const bad = new Set(drawn.filter((event) => isBad(event, startMs)).map(({ id }) => id));
    for (const event of drawn) if (!bad.has(event.id)) noteSent(this.#work, 'usage', event);
    const from = now();
    const answers = await this.#ledger.recordUsageBatch(drawn);
    answers.forEach((answer, index) => {
      const event = drawn[index] as ChaosEvent;
      if (answer.status !== 'rejected') {
        if (bad.has(event.id)) book.problem(`batch: recorded ${JSON.stringify(event)}`);
        noteAnswer(this.#work, 'batch', event, answer, { from });
      } else if (bad.has(event.id)) this.#noteRefusal('batch', event, answer.error);
      else noteFailure(this.#work, 'batch', answer.error);
    });
  }

  /** What was answered once is a duplicate from then on. */
  async #again(): Promise<void> {
    const event = this.#last;
    if (!event) return;
    await this.#send('again', event, async () => {
      const answer = await this.#ledger.recordUsage(event);
      if (answer.status !== 'duplicate') this.#work.book.problem(`${event.id}: recorded again`);
      return answer;
    });
  }

  async #conflict(): Promise<void> {
    const event = this.#last;
    if (!event) return;
    try {
      await this.#ledger.recordUsage({ ...event, cost: event.cost + (event.cost > 0 ? -1 : 1) });
      this.#work.book.problem(`${event.id}: other content was taken`);
    } catch (error) {
      if ((error as LedgerError).code === 'idempotency_conflict') this.#work.book.done('conflict');
      else noteFailure(this.#work, 'conflict', error);
    }
  }

  async #bad(): Promise<void> {
    const { random, startMs, book } = this.#work;
    const event = drawBadEvent(random, startMs);
    try {
      await this.#ledger.recordUsage(event);
      book.problem(`recorded ${JSON.stringify(event)}`);
    } catch (error) {
      this.#noteRefusal('bad', event, error as Error);
    }
  }

  #noteRefusal(way: string, { id }: ChaosEvent, error: Error): void {
    const code = error instanceof LedgerError ? error.code : '';
    if (!/^(invalid_event|unknown_user|unknown_organization)$/.test(code)) {
      noteFailure(this.#work, way, error);
    } else this.#work.book.note({ what: 'refused', way: `${way}: ${code}`, id });
  }

  async #readBalance(): Promise<void> {
    const { random, book } = this.#work;
    const from = now();
    const isUser = random.next() < 0.7;
    const id = random.pick(isUser ? PEOPLE : ORGANIZATIONS);
    const total = await (isUser
      ? this.#ledger.getUserBalance(id)
      : this.#ledger.getOrganizationBalance(id));
    const key = payerKey({ user: id, organization: null });
    book.note({ what: 'total', from, at: now(), way: 'balance', key, total: `${total}`, own: [] });
  }

  async #readDay(): Promise<void> {
    const { random, book, startMs } = this.#work;
    const user = random.pick([HOT, ...PEOPLE]);
    const organization = random.next() < 0.3 ? random.pick(ORGANIZATIONS) : null;
    const day = utcDay(startMs - random.between(0, 3) * 86_400_000);
    const from = now();
    const days = await this.#ledger.getDailyUsage({
      kilo_user_id: user,
      organization_id: organization,
      from: day,
      until: day,
    });
    const total = String(days[0]?.total_cost_microdollars ?? 0);
    const key = dayKey(user, organization, day);
    book.note({ what: 'total', from, at: now(), way: 'day', key, total, own: [] });
  }
}

/** As `drawBadEvent` spoils them. */
function isBad({ kilo_user_id, organization_id, cost, created_at }: ChaosEvent, startMs: number) {
  return (
    kilo_user_id === 'nobody' ||
    !Number.isInteger(cost) ||
    Math.abs(cost) > 1_000_000_000_000 ||
    (organization_id !== null && !ORGANIZATIONS.some((known) => known === organization_id)) ||
    (created_at !== undefined &&
      (created_at < '2015' || Date.parse(created_at) > startMs + 86_400_000))
  );
}
