import { doAtExit } from './atExit.js';
import { discard, type Places } from './cluster.js';
import type { Member, Members, StartLock } from './membership.js';
import type { EmbeddedPostgres, EmbeddedPostgresOptions } from './options.js';
import * as postmaster from './postmaster.js';
import { isRunning } from './processes.js';
import type { Running } from './running.js';
import { summarize, tailOfLog } from './serverLog.js';

const WATCH_MS = 1_000;
const EXIT_WAIT_MS = 5_000;

/** One use of a running server, from start to `stop`. */
export class EmbeddedServer implements EmbeddedPostgres {
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  readonly pid: number;
  readonly joined: boolean;
  readonly exited: Promise<{ expected: boolean; reason: string }>;
  readonly #places: Places;
  readonly #members: Members;
  readonly #lock: StartLock;
  readonly #member: Member;
  readonly #persistent: boolean;
  readonly #cancelAtExit: () => void;
  #settleExited: (result: { expected: boolean; reason: string }) => void = () => {};
  #stopping: Promise<void> | null = null;

  constructor(
    places: Places,
    members: Members,
    lock: StartLock,
    member: Member,
    options: EmbeddedPostgresOptions,
    running: Running & { url: string },
  ) {
    this.#places = places;
    this.#members = members;
    this.#lock = lock;
    this.#member = member;
    this.#persistent = options.persistent ?? true;
    this.url = running.url;
    this.port = running.port;
    this.pid = running.pid;
    this.joined = running.joined;
    this.dataDir = options.dataDir;
    this.exited = new Promise((resolve) => {
      this.#settleExited = resolve;
    });
    this.#watch();
    this.#cancelAtExit = doAtExit(() => this.#leaveNow());
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    // Where it cannot be written (a full disk) nobody else takes it either: we go on without.
    const release = await this.#lock.acquire(performance.now() + 60_000).catch(() => null);
    try {
      this.#member.leave();
      this.#cancelAtExit();
      if (this.#members.list().length === 0) {
        for (const pid of this.#pids()) await postmaster.stopPostmaster(pid, this.#places);
        if (!this.#persistent) discard(this.#places);
      }
    } finally {
      release?.();
    }
    this.#settleExited({ expected: true, reason: 'stopped' });
  }

  /** At process exit nothing can be awaited: the server finishes its shutdown by itself. */
  #leaveNow(): void {
    this.#member.leave();
    let release: (() => void) | null = null;
    try {
      release = this.#lock.tryAcquire();
      // Held: someone is about to join, or to see that nobody is left.
      if (release === null) return;
    } catch {
      // As in `#stop`.
    }
    if (this.#members.list().length === 0) {
      const how = this.#persistent ? 'fast' : 'immediate';
      for (const pid of this.#pids()) {
        postmaster.signalStop(pid, this.#places, how);
        if (!this.#persistent) postmaster.waitUntilGoneSync(pid, EXIT_WAIT_MS);
      }
      if (!this.#persistent) discard(this.#places);
    }
    release?.();
  }

  /** Ours, and the one that another process may have started when ours had died. */
  #pids(): Set<number> {
    return new Set([this.pid, postmaster.findPostmaster(this.#places)?.pid ?? this.pid]);
  }

  /** A look a second: works for an adopted server too, which is not our child. */
  #watch(): void {
    const timer = setInterval(() => {
      if (isRunning(this.pid)) return;
      clearInterval(timer);
      this.#settleExited({
        expected: this.#stopping !== null,
        reason: `PostgreSQL ${this.pid} is gone; ${summarize(tailOfLog(this.#places))}`,
      });
    }, WATCH_MS);
    timer.unref();
  }
}
