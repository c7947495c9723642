import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from '../lib/bench.js';
import { type Cost, NO_COST } from '../lib/cost.js';
import type { Check, Findings } from '../lib/scenario.js';
import { quantile, round } from '../lib/statistics.js';
import { type GatewayRig, type RigOptions, startGatewayRig } from './gatewayRig.js';

/** Clients, each reading one stream after the other. */
export const STREAMS = 64;
/** Of a stream: 20 events, this far apart. */
export const DELAY_MS = 40;
const STREAM_MS = 20 * DELAY_MS;

export interface GatewayWay {
  name: string;
  options: RigOptions;
}

interface Measured {
  rig: GatewayRig;
  firstByteMs: number[];
  answered: number;
  cost: Cost;
  /** Of the gateway's process, seconds. */
  cpuSeconds: number;
}

/**
 * The order of a round, of as many rounds as there are ways: each is at each place once and, of an even number,
 * once behind each other, for what one leaves to do in the background is done beside the next.
 */
export function orderOf(round: number, count: number): number[] {
  return Array.from({ length: count }, (_, place) => {
    const step = place % 2 === 1 ? (place + 1) / 2 : count - place / 2;
    return (round + step) % count;
  });
}

/** The same streams through a gateway for each way, in turns. @param label of the first column */
export async function compareGateways(
  bench: Bench,
  ways: readonly GatewayWay[],
  label: string,
): Promise<Findings> {
  const measured: Measured[] = [];
  try {
    for (const { options } of ways) {
      const rig = await startGatewayRig(bench, options);
      measured.push({ rig, firstByteMs: [], answered: 0, cost: NO_COST, cpuSeconds: 0 });
    }
    for (const way of measured) await warmUp(way);
    const seconds = bench.options.seconds ?? bench.pick(6, 2);
    for (let turn = 0; turn < ways.length; turn++) {
      for (const index of orderOf(turn, ways.length)) {
        await measure(bench, measured[index] as Measured, seconds * 1_000);
      }
    }
    const checks: Check[] = [];
    for (const [index, way] of measured.entries()) {
      for (const check of await way.rig.check(way.answered)) {
        checks.push({ ...check, name: `${ways[index]?.name}: ${check.name}` });
      }
    }
    return toFindings(ways, measured, checks, label);
  } finally {
    for (const { rig } of measured) await rig.stop();
  }
}

const BODY = {
  model: 'gpt-4.1-nano',
  stream: true,
  messages: [{ role: 'user', content: 'Say what it holds. '.repeat(60) }],
};

/** Connections are open, and processes warm, before anything is measured. */
async function warmUp(way: Measured): Promise<void> {
  for (let turn = 0; turn < 8; turn++) {
    const sent = Array.from({ length: STREAMS }, (_, payer) =>
      way.rig.send('gateway', { ...BODY, metadata: {} }, payer),
    );
    way.answered += (await Promise.all(sent)).length;
  }
}

async function measure(bench: Bench, way: Measured, ms: number): Promise<void> {
  const body = { ...BODY, metadata: { delay_ms: String(DELAY_MS) } };
  const before = await bench.meter.read();
  const cpuBefore = await cpuSecondsOf(way.rig);
  const endsAt = performance.now() + ms;
  const client = async (index: number) => {
    // Out of step: streams begin at any time, not all at once.
    await sleep((index / STREAMS) * STREAM_MS);
    for (let turn = index; performance.now() < endsAt; turn++) {
      const { firstByteMs } = await way.rig.send('gateway', body, index);
      way.firstByteMs.push(firstByteMs);
      await sleep((index * 37 + turn * 11) % 100);
    }
  };
  const sentBefore = way.firstByteMs.length;
  await Promise.all(Array.from({ length: STREAMS }, (_, index) => client(index)));
  // What the background does for these requests is a part of what they cost.
  await sleep(1_500);
  const after = await bench.meter.read();
  way.cpuSeconds += (await cpuSecondsOf(way.rig)) - cpuBefore;
  way.answered += way.firstByteMs.length - sentBefore;
  for (const key of ['serverCpuUs', 'walBytes'] as const)
    way.cost = { ...way.cost, [key]: way.cost[key] + after[key] - before[key] };
}

/** As the process itself tells. */
async function cpuSecondsOf({ gatewayUrl }: GatewayRig): Promise<number> {
  const metrics = await (await fetch(`${gatewayUrl}/metrics`)).text();
  return Number(/^process_cpu_seconds_total (\S+)$/m.exec(metrics)?.[1]);
}

function toFindings(
  ways: readonly GatewayWay[],
  measured: readonly Measured[],
  checks: Check[],
  label: string,
): Findings {
  const rows = measured.map(({ firstByteMs, cost, cpuSeconds }, index) => [
    ways[index]?.name ?? '',
    ...[0.5, 0.9, 0.99].map((q) => round(quantile(firstByteMs, q), 3)),
    round((cpuSeconds * 1e6) / firstByteMs.length, 3),
    round(cost.serverCpuUs / firstByteMs.length, 3),
    round(cost.walBytes / firstByteMs.length, 3),
    firstByteMs.length,
  ]);
  const columns = [
    label,
    'p50, ms',
    'p90, ms',
    'p99, ms',
    'gateway CPU, µs a request',
    'database CPU, µs a request',
    'WAL, bytes a request',
    'streams',
  ];
  return { tables: [{ title: 'Time to first byte, and what it costs', columns, rows }], checks };
}
