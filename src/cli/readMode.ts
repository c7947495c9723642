import { InvalidArgumentError } from 'commander';
import { LedgerError } from '../errors.js';
import type { ReadMode } from '../ledgerTypes.js';
import { openRollupDatabase } from '../rollup/database.js';
import { type ReadModeStatus, readReadMode, setReadMode } from '../rollup/readMode.js';
import { compareUsers } from '../server/operations/compareUsers.js';
import type { Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { alignTable } from './output.js';

const MAX_COMPARISONS = 100_000;

export const registerReadMode: Register = (command, run) => {
  for (const mode of command.registeredArguments) {
    mode.choices(['raw', 'shadow', 'rollup']);
    mode.description = 'raw: usage rows; shadow: raw, compared with the rollup; rollup';
  }
  command
    .option('--compare <n>', 'with shadow: compare this many users with recent usage now', count)
    .action((mode: ReadMode | undefined, options: { compare?: number }) =>
      run((context) =>
        withMigratedDatabase(context, async ({ url, viaPooler }) => {
          const database = openRollupDatabase(url, 1, { viaPooler });
          try {
            if (mode !== undefined && options.compare !== undefined) requireShadow(mode);
            let status = mode
              ? await setReadMode(database, mode)
              : await readReadMode(database.query);
            let mismatches: string[] = [];
            if (options.compare !== undefined) {
              requireShadow(status.stored);
              mismatches = (await compareUsers(database, options.compare)).mismatches;
              status = await readReadMode(database.query);
            }
            context.output.answer(toDocument(status), describe(status, mismatches));
            return mismatches.length === 0 ? 0 : 1;
          } finally {
            await database.close();
          }
        }),
      ),
    );
};

/** Anywhere else it would compare nothing, and say nothing of it. */
function requireShadow(mode: ReadMode): void {
  if (mode === 'shadow') return;
  throw new LedgerError(
    'invalid_request',
    `--compare goes with shadow; reads are in mode ${mode}`,
    {
      details: { field: 'compare' },
    },
  );
}

function toDocument({ stored, effective, reason, gate }: ReadModeStatus) {
  return {
    read_mode: stored,
    effective_mode: effective,
    reason,
    rollup_allowed: gate.isOpen,
    obstacles: gate.obstacles,
    unproven_days: gate.unprovenDays,
    lease_age_ms: gate.leaseAgeMs,
    shadow: gate.shadow,
  };
}

function describe(status: ReadModeStatus, mismatches: readonly string[]): string {
  const { stored, effective, reason, gate } = status;
  const { shadow } = gate;
  const rows = [
    ['read mode', stored],
    ...(effective === stored ? [] : [['answers come from', effective]]),
    ...(reason === null ? [] : [['reason', reason]]),
    [
      'shadow',
      `${shadow.comparisons} comparisons, ${shadow.mismatches} mismatches (${shadow.required} needed)`,
    ],
    ['rollup', gate.isOpen ? 'allowed' : 'not allowed yet'],
  ];
  return [
    alignTable(rows),
    ...gate.obstacles.map((obstacle) => `  - ${obstacle}`),
    ...mismatches.map((mismatch) => `mismatch: ${mismatch}`),
  ].join('\n');
}

function count(value: string): number {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < 1 || number > MAX_COMPARISONS) {
    throw new InvalidArgumentError(`Expected a whole number from 1 to ${MAX_COMPARISONS}.`);
  }
  return number;
}
