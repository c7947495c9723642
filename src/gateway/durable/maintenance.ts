import type { DeadOwners, OwnerRow } from '../../deadOwners.js';
import { DeadLetterFile, readDeadLetters } from '../../journal/deadLetters.js';
import type { FileSystem } from '../../journal/fileSystem.js';
import { Journal } from '../../journal/journal.js';
import type { DamageReport } from '../../journal/readAhead.js';
import { adoptOrphans, type Slot } from '../../journal/slots.js';
import type { DatabaseGate } from './databaseGate.js';
import { Drain, type DrainContext, findDeletedUsers, withoutPerson } from './drain.js';
import { type SettleOwnerContext, settleOwner } from './estimate.js';
import { deleteInstanceStatement, findOwnersStatement } from './intents.sql.js';
import { reportDamage, reportOpening } from './journalReports.js';
import type { Log } from './options.js';
import { retryLetters } from './retryDeadLetters.js';

export interface MaintenanceContext extends SettleOwnerContext, DrainContext {
  owner: string;
  root: string;
  slot: Slot;
  journal: Journal;
  gate: DatabaseGate;
  deadOwners: DeadOwners;
  beat: () => Promise<unknown>;
  fileSystem: FileSystem;
  log: Log;
  /** The number of letters may have changed. */
  onDeadLetters: (count: number) => void;
}

const SOON_MS = 200;
/** The file may be large; others rarely change it. */
const ROUNDS_BETWEEN_LETTERS = 12;

/**
 * What a gateway process does beside its requests. In rounds, one thing after the other: drains its
 * journal, adopts those of dead processes, settles what they left. Beside the rounds: shows that it
 * lives, makes its journal fit to be written again.
 */
export class Maintenance {
  readonly #context: MaintenanceContext;
  /** By slot: our own, and those of dead processes that are not empty yet. */
  readonly #drains = new Map<number, Drain>();
  #running: Promise<void> | null = null;
  #recovering: Promise<void> | null = null;
  #isWanted = false;
  #timer: NodeJS.Timeout | null = null;
  #beatTimer: NodeJS.Timeout | null = null;
  #soonTimer: NodeJS.Timeout | null = null;
  #isStopped = false;
  /** By owner: how many of its intents are left, as it was told. */
  readonly #left = new Map<string, number>();
  #rounds = 0;
  #appendsSeen = 0;

  constructor(context: MaintenanceContext) {
    this.#context = context;
  }

  start(everyMs: number): void {
    this.#timer = setInterval(() => this.kick(), everyMs).unref();
    // Apart from the rounds: a long drain must not look like death.
    this.#beatTimer = setInterval(() => void this.#beat(), everyMs).unref();
    void this.#beat();
    this.kick();
  }

  /** There is something to drain, or to recover; what comes meanwhile goes with it. */
  kickSoon(): void {
    this.#soonTimer ??= setTimeout(() => {
      this.#soonTimer = null;
      this.kick();
    }, SOON_MS).unref();
  }

  /** Now, or once more when it is under way. */
  kick(): void {
    this.#isWanted = true;
    if (this.#isStopped) return;
    // Apart from the rounds: they may be waiting for the database, requests for the journal.
    this.#recovering ??= this.#recoverJournal().finally(() => {
      this.#recovering = null;
    });
    if (this.#running !== null) return;
    this.#running = this.#run().finally(() => {
      this.#running = null;
    });
  }

  /** One whole round that begins after this call, and leaves nothing out. */
  async runNow(): Promise<void> {
    await this.#running;
    this.#rounds = 0;
    this.kick();
    await Promise.all([this.#running, this.#recovering]);
  }

  /** Resolves when the round under way has ended: it may be waiting for the database. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of [this.#timer, this.#beatTimer, this.#soonTimer]) {
      if (timer !== null) clearTimeout(timer);
    }
    await Promise.all([this.#running, this.#recovering]);
  }

  async #run(): Promise<void> {
    const { gate, log } = this.#context;
    while (this.#isWanted && !this.#isStopped) {
      this.#isWanted = false;
      for (const step of [
        () => this.#drainOwn(),
        () => this.#adopt(),
        () => this.#settleExpired(),
        () => this.#tendDeadLetters(),
      ]) {
        if (this.#isStopped) return;
        try {
          await step();
        } catch (error) {
          gate.report(error);
          log.warn({ reason: (error as Error).message }, 'gateway maintenance will try again');
        }
      }
    }
  }

  async #recoverJournal(): Promise<void> {
    const { journal, log } = this.#context;
    if (journal.status().failure === null) return;
    try {
      await journal.recover();
      log.info({}, 'the journal can be written again');
    } catch (error) {
      log.warn({ reason: (error as Error).message }, 'the journal cannot be written yet');
    }
  }

  async #beat(): Promise<void> {
    const { gate, beat } = this.#context;
    if (gate.isAvailable) await beat().catch((error) => gate.report(error));
  }

  async #drainOwn(): Promise<void> {
    const { gate, journal, slot } = this.#context;
    if (!gate.isAvailable) return;
    await this.#drainOf(slot).run(journal);
    // The journal first: it may hold the usage of intents that are in the database.
    await this.#settleDead(slot);
  }

  async #adopt(): Promise<void> {
    const { gate, root, fileSystem, log } = this.#context;
    const left = new Set([this.#context.slot.index]);
    const adopt = async (slot: Slot) => {
      left.add(slot.index);
      if (gate.isAvailable && !this.#isStopped) await this.#adoptOne(slot);
    };
    const onFailure = (slot: number, error: unknown) => {
      left.add(slot);
      gate.report(error);
      const reason = (error as Error).message;
      log.warn({ slot, reason }, 'the journal of a dead process is left for the next round');
    };
    if (!gate.isAvailable) return;
    await adoptOrphans(root, adopt, onFailure, fileSystem);
    // Drained by another process, or its own now: what it leaves there another time is told anew.
    for (const index of this.#drains.keys()) if (!left.has(index)) this.#drains.delete(index);
  }

  async #adoptOne(slot: Slot): Promise<void> {
    const { deadLetters, fileSystem, metrics, log } = this.#context;
    const { directory, isOwner } = slot;
    const told = { slot: slot.index, metrics, log };
    const onDamage = (damage: DamageReport) => reportDamage(damage, told);
    const journal = await Journal.open({ directory, isOwner, fileSystem, onDamage });
    try {
      // Once, however often it is tried again.
      if (!this.#drains.has(slot.index)) reportOpening(journal, told);
      const records = await this.#drainOf(slot).run(journal);
      if (journal.status().depthRecords === 0) this.#drains.delete(slot.index);
      const settled = await this.#settleDead(slot);
      await deadLetters.absorb(new DeadLetterFile(directory, fileSystem));
      if (records > 0 || settled > 0)
        log.info({ slot: slot.index, records }, 'adopted the journal of a dead process');
    } finally {
      await journal.close();
    }
  }

  #drainOf({ index }: Slot): Drain {
    const drain = this.#drains.get(index) ?? new Drain(this.#context);
    this.#drains.set(index, drain);
    return drain;
  }

  /** @returns of how many of them nothing is left */
  async #settleDead(slot: Slot): Promise<number> {
    let settled = 0;
    for (const owner of slot.deadOwners()) {
      if (!(await this.#settle(owner))) continue;
      await slot.forgetOwner(owner);
      settled++;
    }
    return settled;
  }

  async #settleExpired(): Promise<void> {
    const { gate, query, deadOwners, owner } = this.#context;
    if (!gate.isAvailable) {
      deadOwners.startOver();
      return;
    }
    if (!deadOwners.isTimeToLook) return;
    const rows = await query<OwnerRow>(findOwnersStatement());
    const known = new Set(rows.map((row) => row.owner));
    // Settled by another process.
    for (const each of this.#left.keys()) if (!known.has(each)) this.#left.delete(each);
    for (const dead of deadOwners.look(rows.filter((row) => row.owner !== owner))) {
      await this.#settle(dead);
    }
  }

  /** @returns whether nothing of it is left */
  async #settle(owner: string): Promise<boolean> {
    const { query, log } = this.#context;
    const { estimated, left, reason } = await settleOwner(this.#context, owner);
    if (estimated > 0) log.warn({ owner, estimated }, 'intents without usage settled as estimates');
    // Told when it changes: what can never be settled is tried in every round.
    const isTold = (this.#left.get(owner) ?? 0) === left;
    if (left > 0) {
      this.#left.set(owner, left);
      if (!isTold) log.warn({ owner, left, reason }, 'intents without usage are tried again');
      return false;
    }
    await query(deleteInstanceStatement(owner));
    this.#left.delete(owner);
    return true;
  }

  /** Those that only failed to be saved are tried again; people who were deleted are forgotten. */
  async #tendDeadLetters(): Promise<void> {
    const { gate, root, fileSystem, deadLetters, ledger } = this.#context;
    const isTime = this.#rounds++ % ROUNDS_BETWEEN_LETTERS === 0;
    if (!isTime && deadLetters.appends === this.#appendsSeen) return;
    this.#appendsSeen = deadLetters.appends;
    const { letters } = await deadLetters.read();
    if (letters.length > 0 && gate.isAvailable) {
      const unsaved = letters.filter((letter) => letter.reason === 'unavailable');
      await retryLetters(ledger, deadLetters, unsaved);
      const users = letters.flatMap(({ event }) => event.kilo_user_id ?? []);
      const deleted = await findDeletedUsers(ledger, users);
      await deadLetters.compact((letter) => ({
        ...letter,
        event: withoutPerson(letter.event, deleted),
      }));
    }
    // Of every slot: nobody else may be looking.
    this.#context.onDeadLetters((await readDeadLetters(root, fileSystem)).length);
  }
}
