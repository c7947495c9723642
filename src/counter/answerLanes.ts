import { PAYER_SCOPES, type PayerScope } from '../schema/unsettled.js';

/** Who waits for the balance of a payer. */
export interface Caller {
  resolve: (balance: bigint | null) => void;
}

/** Payers answered by one statement at most; it locks none that is only read. */
const PAYERS_PER_ANSWER = 500;

interface Lane {
  scope: PayerScope;
  isLong: boolean;
  waiting: Map<string, Caller[]>;
  isRunning: boolean;
}

export interface AnswerLanesOptions {
  /** Payers whose tail takes long to read. */
  isLong: (scope: PayerScope, id: string) => boolean;
  /** Resolves every caller. Never rejects. */
  answer: (scope: PayerScope, batch: ReadonlyMap<string, Caller[]>) => Promise<void>;
}

/**
 * Gathers callers, so that one statement answers all that came while the last one ran: one lane for
 * users and one for organizations, and the same for payers with long tails, so that nobody else waits
 * for these (I12).
 */
export class AnswerLanes {
  readonly #options: AnswerLanesOptions;
  readonly #lanes: readonly Lane[] = PAYER_SCOPES.flatMap((scope) =>
    [false, true].map((isLong) => ({ scope, isLong, waiting: new Map(), isRunning: false })),
  );

  constructor(options: AnswerLanesOptions) {
    this.#options = options;
  }

  /** Nobody waits but for payers with long tails. */
  get isQuiet(): boolean {
    return this.#lanes.every(({ isLong, isRunning }) => isLong || !isRunning);
  }

  ask(scope: PayerScope, id: string, caller: Caller): void {
    const isLong = this.#options.isLong(scope, id);
    const lane = this.#lanes.find((each) => each.scope === scope && each.isLong === isLong) as Lane;
    const callers = lane.waiting.get(id);
    if (callers) callers.push(caller);
    else lane.waiting.set(id, [caller]);
    if (!lane.isRunning) void this.#run(lane);
  }

  async #run(lane: Lane): Promise<void> {
    lane.isRunning = true;
    const { scope, waiting } = lane;
    while (waiting.size > 0) {
      const batch = new Map([...waiting].slice(0, PAYERS_PER_ANSWER));
      for (const id of batch.keys()) waiting.delete(id);
      await this.#options.answer(scope, batch);
    }
    lane.isRunning = false;
  }
}
