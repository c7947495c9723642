import { EXA_ALLOWANCE_MICRODOLLARS } from '../../faults/support/clientBook.js';
import type { Total } from './book.js';

/** An event that is stored: sent, answered if ever, cost. */
export interface Counted {
  id: string;
  sentAt: number;
  answeredAt: number;
  cost: bigint;
}

interface Range {
  low: bigint;
  high: bigint;
}

/** Sums of what is positive and of what is negative, up to each time. */
class Curve {
  readonly #times: number[] = [];
  readonly #sums: { plus: bigint; minus: bigint }[] = [{ plus: 0n, minus: 0n }];

  constructor(points: { at: number; cost: bigint }[]) {
    let [plus, minus] = [0n, 0n];
    for (const { at, cost } of points.sort((a, b) => a.at - b.at)) {
      if (cost > 0n) plus += cost;
      else minus += cost;
      this.#times.push(at);
      this.#sums.push({ plus, minus });
    }
  }

  until(at: number): { plus: bigint; minus: bigint } {
    let [from, to] = [0, this.#times.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#times[middle] as number) <= at) from = middle + 1;
      else to = middle;
    }
    return this.#sums[from] as { plus: bigint; minus: bigint };
  }
}

/**
 * What a total may be that was asked for at `from` and answered at `at`: it contains everything that
 * was acknowledged before it was asked for, and the caller's own; it may contain what was sent
 * before it was answered; nothing else.
 */
export class Cell {
  readonly #sent: Curve;
  readonly #answered: Curve;
  readonly #events: ReadonlyMap<string, Counted>;

  constructor(events: readonly Counted[]) {
    this.#sent = new Curve(events.map(({ sentAt, cost }) => ({ at: sentAt, cost })));
    this.#answered = new Curve(events.map(({ answeredAt, cost }) => ({ at: answeredAt, cost })));
    this.#events = new Map(events.map((event) => [event.id, event]));
  }

  range({ from, at, own }: Pick<Total, 'from' | 'at' | 'own'>): Range {
    const certain = this.#answered.until(from);
    const sent = this.#sent.until(at);
    const range = {
      low: certain.plus + sent.minus,
      high: certain.minus + sent.plus,
    };
    for (const id of own) {
      const event = this.#events.get(id);
      if (!event || event.answeredAt <= from) continue;
      if (event.cost > 0n) range.low += event.cost;
      else range.high += event.cost;
    }
    return range;
  }
}

/** A payer: its usage, and of each Exa month of a user what passes the free allowance. */
export class PayerCells {
  readonly #usage: Cell;
  readonly #months: readonly Cell[];

  constructor(usage: readonly Counted[], months: Iterable<readonly Counted[]>) {
    this.#usage = new Cell(usage);
    this.#months = [...months].map((events) => new Cell(events));
  }

  range(asked: Pick<Total, 'from' | 'at' | 'own'>): Range {
    const range = this.#usage.range(asked);
    for (const month of this.#months) {
      const { low, high } = month.range(asked);
      range.low += charged(low);
      range.high += charged(high);
    }
    return range;
  }
}

export function charged(total: bigint): bigint {
  const past = total - BigInt(EXA_ALLOWANCE_MICRODOLLARS);
  return past > 0n ? past : 0n;
}
