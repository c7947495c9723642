import { LedgerError } from '../../errors.js';
import { toJsonInteger } from '../../money.js';
import type { PeriodFailure } from '../../rollup/periodFailure.js';
import { repairRollup } from '../../rollup/repair.js';
import { type Drift, type VerifyReport, verifyRollup } from '../../rollup/verify.js';
import { DAILY_ROLLUP } from '../../schema/rollups.js';
import { toErrorBody } from '../errors.js';
import type { JobDatabase } from './jobDatabase.js';

/** Findings that are sent to the page; all are counted. */
const MAX_FINDINGS = 100;

export interface ProofRequest {
  kind: 'verify' | 'repair';
  /** UTC days, inclusive. */
  from: string;
  until: string;
}

export interface ProofResult {
  periods: number;
  rows: number;
  keys: number;
  driftKeys: number;
  /** Sum of absolute drift, microdollars. */
  driftMicrodollars: number | string;
  findings: ProofFinding[];
  /** Days that could not be looked at; the others were. */
  failures: PeriodFailure[];
}

/** As JSON has it: amounts past 2^53 are decimal strings. */
export type ProofFinding = Omit<Drift, AmountField> & Record<AmountField, number | string>;
type AmountField = 'reportedMicrodollars' | 'trueMicrodollars' | 'driftMicrodollars';

/** The verification or repair that this process runs, or ran last. */
export interface ProofJobState extends ProofRequest {
  isRunning: boolean;
  periodsDone: number;
  periodsTotal: number;
  /** ISO 8601. */
  startedAt: string;
  finishedAt: string | null;
  notice: string | null;
  error: { code: string; message: string } | null;
  /** Of a repair: what it found before it corrected. */
  result: ProofResult | null;
  /** Of a repair only. */
  repaired: number | null;
  /** Keys that another session held; repair again. */
  locked: number | null;
  /** Keys still wrong after the repair. */
  leftKeys: number | null;
}

/** Runs one verification or repair of the daily rollup at a time, in the background. */
export class ProofJob {
  readonly #database: JobDatabase;
  readonly #abort = new AbortController();
  #state: ProofJobState | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(database: JobDatabase) {
    this.#database = database;
  }

  get state(): ProofJobState | null {
    return this.#state;
  }

  start(request: ProofRequest): void {
    if (this.#state?.isRunning) {
      throw new LedgerError('already_exists', `this server runs a ${this.#state.kind} already`);
    }
    this.#state = {
      ...request,
      isRunning: true,
      periodsDone: 0,
      periodsTotal: 0,
      startedAt: new Date().toISOString(),
      finishedAt: null,
      notice: null,
      error: null,
      result: null,
      repaired: null,
      locked: null,
      leftKeys: null,
    };
    this.#running = this.#run(request);
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async #run(request: ProofRequest): Promise<void> {
    const options = {
      ...this.#database,
      rollup: DAILY_ROLLUP,
      from: request.from,
      until: request.until,
      workers: 1,
      signal: this.#abort.signal,
      onPeriod: (_period: string, periodsDone: number, periodsTotal: number) =>
        this.#update({ periodsDone, periodsTotal }),
      onNotice: (notice: string) => this.#update({ notice }),
    };
    try {
      if (request.kind === 'verify') {
        this.#update({ result: toResult(await verifyRollup(options)) });
      } else {
        const { found, repaired, locked, left } = await repairRollup(options);
        this.#update({
          result: toResult(found),
          repaired,
          locked,
          leftKeys: left?.driftKeys ?? 0,
        });
      }
    } catch (error) {
      const { code, message } = toErrorBody(error);
      this.#update({ error: { code, message } });
    } finally {
      this.#update({ isRunning: false, finishedAt: new Date().toISOString() });
    }
  }

  #update(change: Partial<ProofJobState>): void {
    if (this.#state !== null) this.#state = { ...this.#state, ...change };
  }
}

function toResult(report: VerifyReport): ProofResult {
  return {
    periods: report.periods,
    rows: report.rows,
    keys: report.keys,
    driftKeys: report.driftKeys,
    driftMicrodollars: toJsonInteger(report.driftMicrodollars),
    findings: report.drifts.slice(0, MAX_FINDINGS).map(toFinding),
    failures: report.failures,
  };
}

function toFinding(drift: Drift): ProofFinding {
  return {
    ...drift,
    reportedMicrodollars: toJsonInteger(drift.reportedMicrodollars),
    trueMicrodollars: toJsonInteger(drift.trueMicrodollars),
    driftMicrodollars: toJsonInteger(drift.driftMicrodollars),
  };
}
