import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Journal } from '../../src/journal/journal.js';
import { inForm } from '../support/form.js';
import { MemoryDisk } from '../support/journalDisk.js';

type Step =
  | { kind: 'append'; count: number; bytes: number }
  | { kind: 'drain'; count: number }
  | { kind: 'fail'; operation: 'write' | 'sync' | 'create'; taken: number }
  | { kind: 'recover' }
  | { kind: 'reopen' }
  | { kind: 'powerCut'; count: number; turns: number; seed: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      count: fc.integer({ min: 1, max: 6 }),
      bytes: fc.integer({ min: 0, max: 80 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('drain' as const),
      count: fc.integer({ min: 1, max: 8 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('fail' as const),
      operation: fc.constantFrom('write' as const, 'sync' as const, 'create' as const),
      taken: fc.integer({ min: 0, max: 40 }),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'recover' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reopen' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('powerCut' as const),
      count: fc.integer({ min: 0, max: 4 }),
      turns: fc.integer({ min: 0, max: 8 }),
      seed: fc.integer(),
    }),
  },
);

/** What must hold, whatever the disk does: every acknowledged record is read once, in order. */
class Model {
  disk = new MemoryDisk();
  /** Told durable and not drained yet, oldest first. */
  durable: string[] = [];
  /** Under way when the power went: may be there or not. */
  readonly doubtful = new Set<string>();
  readonly refused = new Set<string>();
  #made = 0;
  #journal: Journal | null = null;

  async journal(): Promise<Journal> {
    if (this.#journal === null) {
      const fileSystem = this.disk;
      this.#journal = await Journal.open({ directory: '/journal', fileSystem, segmentBytes: 150 });
      // A power cut tears what was not acknowledged; that is no damage and no loss.
      expect(this.#journal.openReport).toMatchObject({ corruptions: 0, missingRecords: 0 });
    }
    return this.#journal;
  }

  async append(count: number, bytes: number): Promise<void> {
    const journal = await this.journal();
    const texts = Array.from({ length: count }, () => this.#text(bytes));
    const outcomes = await Promise.allSettled(
      texts.map((text) => journal.append(1, Buffer.from(text))),
    );
    for (const [index, outcome] of outcomes.entries()) {
      const text = texts[index] as string;
      if (outcome.status === 'fulfilled') this.durable.push(text);
      else this.refused.add(text);
    }
  }

  async drain(count: number): Promise<void> {
    const journal = await this.journal();
    const records = await journal.readNext(count);
    for (const record of records) {
      const text = record.payload.toString();
      expect(this.refused.has(text)).toBe(false);
      if (this.durable[0] === text) this.durable.shift();
      else expect(this.doubtful.delete(text)).toBe(true);
    }
    const last = records.at(-1);
    if (last !== undefined) await journal.acknowledge(last.sequence);
    expect(journal.status().depthRecords).toBeGreaterThanOrEqual(this.durable.length);
  }

  async fail(operation: string, taken: number): Promise<void> {
    // On a failing disk a journal does not open at all.
    await this.journal();
    let isFirst = true;
    this.disk.fault = (asked) => {
      if (asked !== operation) return null;
      if (operation !== 'write' || !isFirst || taken === 0) return 'EIO';
      isFirst = false;
      return taken;
    };
  }

  async recover(): Promise<void> {
    this.disk.fault = () => null;
    await (await this.journal()).recover();
  }

  async reopen(): Promise<void> {
    await this.recover();
    await this.#journal?.close();
    this.#journal = null;
  }

  /** Appends, and pulls the plug while they are under way. */
  async powerCut(count: number, turns: number, seed: number): Promise<void> {
    const journal = await this.journal();
    let done = false;
    for (let index = 0; index < count; index++) {
      const text = this.#text(20);
      this.doubtful.add(text);
      journal.append(1, Buffer.from(text)).then(
        () => {
          if (done) return;
          this.doubtful.delete(text);
          this.durable.push(text);
        },
        () => {
          // Refused: yet the power may go before it has been cut off again.
        },
      );
    }
    for (let turn = 0; turn < turns; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    done = true;
    // The process of before the cut may go on: its disk is not this one.
    this.disk = this.disk.afterPowerCut(random(seed));
    this.#journal = null;
  }

  #text(bytes: number): string {
    this.#made++;
    return `${this.#made}:${'x'.repeat(bytes)}`;
  }
}

/** Reproducible, in [0, 1). */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

async function take(model: Model, next: Step): Promise<void> {
  switch (next.kind) {
    case 'append':
      return model.append(next.count, next.bytes);
    case 'drain':
      return model.drain(next.count);
    case 'fail':
      return model.fail(next.operation, next.taken);
    case 'recover':
      return model.recover();
    case 'reopen':
      return model.reopen();
    case 'powerCut':
      return model.powerCut(next.count, next.turns, next.seed);
  }
}

describe('journal, against a model', () => {
  it('reads every acknowledged record once and in order, through faults and power cuts', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const model = new Model();
        for (const next of steps) await take(model, next);
        await model.reopen();
        await model.drain(10_000);
        expect(model.durable).toEqual([]);
        expect((await model.journal()).status()).toMatchObject({ depthRecords: 0, bytes: 0 });
      }),
      { numRuns: Number(process.env.MICRODOLLAR_JOURNAL_RUNS ?? inForm(50, 300)) },
    );
  });
});
