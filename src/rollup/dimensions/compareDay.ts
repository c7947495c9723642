import { isStatementTimeout } from '../../db/sqlstate.js';
import type { DimensionRollup } from '../../schema/dimensionRollups.js';
import type { RollupDatabase } from '../database.js';
import {
  type ComparedSlice,
  compareSliceStatement,
  type Slice,
  type SliceFinding,
} from './compareSlice.sql.js';
import { AT_ONCE, type Pace } from './pace.js';

/** Nobody waits for a comparison; a slice that takes longer is split. */
const SLICE_TIMEOUT_MS = 20_000;
/** The last resort: one period, however many rows it has. */
const PERIOD_TIMEOUT_MS = 10 * 60_000;

/** A slice with wrong keys, and whose they are. */
export interface WrongSlice {
  slice: Slice;
  users: string[];
  organizations: string[];
}

export interface ComparedDay {
  rawRows: number;
  rawCost: bigint;
  keys: number;
  wrong: number;
  /** Sum of absolute differences of cost, microdollars. */
  wrongCost: bigint;
  /** The first of them. */
  findings: SliceFinding[];
  wrongSlices: WrongSlice[];
}

/**
 * Compares a day, of all or of one user, in slices of whole periods, each in one snapshot, smaller ones where
 * it is large.
 */
export async function compareDay(
  database: Pick<RollupDatabase, 'transaction'>,
  rollup: DimensionRollup,
  day: string,
  { pace = AT_ONCE, kiloUserId }: { pace?: Pace; kiloUserId?: string | undefined } = {},
): Promise<ComparedDay> {
  const compared: ComparedDay = {
    rawRows: 0,
    rawCost: 0n,
    keys: 0,
    wrong: 0,
    wrongCost: 0n,
    findings: [],
    wrongSlices: [],
  };
  const sizes = [1_440, 360, 60, 15].filter((minutes) => minutes >= rollup.minutes);
  const first = sizes.find((minutes) => minutes <= pace.sliceMinutes) ?? sizes.at(-1) ?? 1_440;
  const queue = slicesOf({ day, offset: 0, minutes: 1_440, kiloUserId }, first);
  for (let slice = queue.shift(); slice !== undefined; slice = queue.shift()) {
    const smaller = sizes.find((minutes) => minutes < (slice as Slice).minutes);
    try {
      const at = slice;
      const row = await pace.step(
        () => compareSlice(database, rollup, at, smaller === undefined),
        slice.minutes,
      );
      add(compared, slice, row);
    } catch (error) {
      if (smaller === undefined || !isStatementTimeout(error)) throw error;
      queue.push(...slicesOf(slice, smaller));
    }
  }
  return compared;
}

function slicesOf(whole: Slice, minutes: number): Slice[] {
  return Array.from({ length: whole.minutes / minutes }, (_, index) => ({
    ...whole,
    offset: whole.offset + index * minutes,
    minutes,
  }));
}

async function compareSlice(
  database: Pick<RollupDatabase, 'transaction'>,
  rollup: DimensionRollup,
  slice: Slice,
  isLast: boolean,
): Promise<ComparedSlice> {
  return await database.transaction(
    async (query) => {
      const [row] = await query<ComparedSlice>(compareSliceStatement(rollup, slice));
      if (!row) throw new Error('compare returned no row');
      return row;
    },
    {
      snapshot: 'read',
      statementTimeoutMs: isLast ? PERIOD_TIMEOUT_MS : SLICE_TIMEOUT_MS,
      plansForValues: true,
    },
  );
}

function add(compared: ComparedDay, slice: Slice, row: ComparedSlice): void {
  compared.rawRows += Number(row.raw_rows);
  compared.rawCost += BigInt(row.raw_cost);
  compared.keys += Number(row.keys);
  compared.wrong += Number(row.wrong);
  compared.wrongCost += BigInt(row.wrong_cost);
  compared.findings.push(...(row.findings ?? []));
  if (Number(row.wrong) === 0) return;
  compared.wrongSlices.push({ slice, users: row.users, organizations: row.organizations });
}
