import { readdirSync, readFileSync } from 'node:fs';
import type pg from 'pg';

/** What work cost so far: CPU of the server's processes and of this one, and WAL written. */
export interface Cost {
  serverCpuUs: number;
  clientCpuUs: number;
  walBytes: number;
}

export const NO_COST: Cost = { serverCpuUs: 0, clientCpuUs: 0, walBytes: 0 };

/** Clock ticks of /proc, a second. */
const TICKS_PER_SECOND = 100;

/**
 * Reads the cost of everything so far; the difference of two readings is what came between. CPU
 * from /proc, so on Linux only (elsewhere 0): running backends to the nanosecond, ended ones by the
 * postmaster's account of its children.
 */
export class CostMeter {
  readonly #postmasterPid: number;
  readonly #pool: pg.Pool;

  constructor(postmasterPid: number, pool: pg.Pool) {
    this.#postmasterPid = postmasterPid;
    this.#pool = pool;
  }

  async read(): Promise<Cost> {
    const { rows } = await this.#pool.query<{ wal: string }>(
      `select (pg_current_wal_insert_lsn() - '0/0')::text as wal`,
    );
    const { user, system } = process.cpuUsage();
    return {
      serverCpuUs: this.#serverCpuUs(),
      clientCpuUs: user + system,
      walBytes: Number(rows[0]?.wal ?? 0),
    };
  }

  #serverCpuUs(): number {
    try {
      const own = readStat(this.#postmasterPid);
      let us =
        ((Number(own[11]) + Number(own[12]) + Number(own[13]) + Number(own[14])) * 1e6) /
        TICKS_PER_SECOND;
      for (const entry of readdirSync('/proc')) {
        if (/^\d+$/.test(entry)) us += this.#childCpuUs(entry);
      }
      return us;
    } catch {
      return 0;
    }
  }

  /** 0 for a process of others, or one that has just ended. */
  #childCpuUs(pid: string): number {
    try {
      if (Number(readStat(Number(pid))[1]) !== this.#postmasterPid) return 0;
      return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1_000;
    } catch {
      return 0;
    }
  }
}

/** Fields of /proc/PID/stat behind the name, which may hold anything. */
function readStat(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

export function costPerEvent(before: Cost, after: Cost, events: number): Cost {
  const per = (key: keyof Cost) => (events === 0 ? 0 : (after[key] - before[key]) / events);
  return {
    serverCpuUs: per('serverCpuUs'),
    clientCpuUs: per('clientCpuUs'),
    walBytes: per('walBytes'),
  };
}
