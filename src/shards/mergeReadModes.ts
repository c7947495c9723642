import type { ReadMode, ReadModeStatus } from '../ledgerTypes.js';
import type { Shard } from './shard.js';

/** The less is proven, the earlier. */
const ORDER: readonly ReadMode[] = ['raw', 'shadow', 'rollup'];

/** Of all shards the least that is proven, with whose it is; null while none is open. */
export function mergeReadModes(shards: readonly Shard[]): ReadModeStatus | null {
  const known = shards.flatMap(({ name, ledger }) => {
    const status = ledger?.getReadMode() ?? null;
    return status === null ? [] : [{ name, status }];
  });
  const [first] = known;
  if (first === undefined) return null;
  const least = (read: (status: ReadModeStatus) => ReadMode): ReadMode =>
    known
      .map(({ status }) => read(status))
      .sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b))[0] ?? 'raw';
  const gates = known.map(({ status }) => status.gate);
  const days = (read: (gate: ReadModeStatus['gate']) => string[]) =>
    [...new Set(gates.flatMap(read))].sort();
  const sum = (read: (gate: ReadModeStatus['gate']) => number) =>
    gates.reduce((total, gate) => total + read(gate), 0);
  const ages = gates.map(({ leaseAgeMs }) => leaseAgeMs);
  const horizons = known.flatMap(({ status }) => status.archiveHorizonSeconds ?? []);
  const told = known.find(({ status }) => status.reason !== null);
  return {
    stored: least(({ stored }) => stored),
    effective: least(({ effective }) => effective),
    reason: told === undefined ? null : `shard "${told.name}": ${told.status.reason}`,
    gate: {
      isOpen: gates.every(({ isOpen }) => isOpen),
      obstacles: known.flatMap(({ name, status }) =>
        status.gate.obstacles.map((obstacle) => `shard "${name}": ${obstacle}`),
      ),
      unprovenDays: days(({ unprovenDays }) => unprovenDays),
      driftedDays: days(({ driftedDays }) => driftedDays),
      leaseAgeMs: ages.includes(null) ? null : Math.max(...ages.map(Number)),
      leaseMinutes: first.status.gate.leaseMinutes,
      leaseLeftMs: Math.min(...gates.map(({ leaseLeftMs }) => leaseLeftMs)),
      shadow: {
        comparisons: sum(({ shadow }) => shadow.comparisons),
        mismatches: sum(({ shadow }) => shadow.mismatches),
        required: first.status.gate.shadow.required,
        since: gates.map(({ shadow }) => shadow.since ?? '').sort()[0] || null,
      },
    },
    archiveHorizonSeconds: horizons.length === 0 ? null : Math.max(...horizons),
    shardName: null,
  };
}
