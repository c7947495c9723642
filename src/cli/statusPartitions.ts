import type { Queryable } from '../db/migrate/journal.js';
import { countMonthsAhead } from '../db/migrate/partitions/planMonths.js';
import { type PartitionState, readPartitionState } from '../db/migrate/partitions/state.js';
import { formatBytes, formatCount } from './output.js';

const FEWEST_MONTHS_AHEAD = 2;

/** Partitions of usage, as `status` shows them; null where it is one table. */
export async function readPartitions(database: Queryable) {
  const state = await readPartitionState(database);
  if (state.kind !== 'by id') return { document: null, warnings: [] };
  const document = {
    months_ahead: countMonthsAhead(state),
    being_prepared: state.preparing === null ? null : [state.preparing.first, state.preparing.last],
    partitions: state.partitions.map(({ name, month, rows, bytes }) => ({
      name,
      month,
      estimated_rows: rows,
      bytes,
    })),
  };
  return { document, warnings: warn(state) };
}

function warn(state: PartitionState): string[] {
  const ahead = countMonthsAhead(state);
  return [
    ...(ahead < FEWEST_MONTHS_AHEAD
      ? [
          `partitions of usage are prepared for ${ahead} months ahead; run \`microdollar migrate\` as ` +
            'the owner, or what comes after them goes into the default partition',
        ]
      : []),
    ...(state.preparing === null
      ? []
      : [
          `partitions of ${state.preparing.first} to ${state.preparing.last} are being prepared: their ` +
            'ids cannot be written meanwhile. If nobody does, run `microdollar migrate` as the owner',
        ]),
  ];
}

export function describePartitions(
  document: Awaited<ReturnType<typeof readPartitions>>['document'],
): string[][] {
  if (document === null) return [];
  const { partitions, months_ahead } = document;
  const months = partitions.filter(({ month }) => month !== null);
  const others = partitions.filter(({ month }) => month === null);
  const size = (each: typeof partitions) =>
    formatBytes(each.reduce((sum, { bytes }) => sum + bytes, 0));
  return [
    [
      'partitions',
      `${formatCount(months.length)} months, ${formatCount(months_ahead)} of them ahead: ` +
        `${size(months)}; default: ${size(others)}`,
    ],
  ];
}
