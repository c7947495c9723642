import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from '../lib/bench.js';
import type { Findings, Scenario } from '../lib/scenario.js';
import { quantile, round } from '../lib/statistics.js';
import { PAYERS, startGatewayRig, type Way } from './gatewayRig.js';

const STREAMS = 64;
/** Of a stream: 20 events, this far apart. */
const DELAY_MS = 40;
const STREAM_MS = 20 * DELAY_MS;
const WAYS: readonly Way[] = ['direct', 'proxy', 'gateway'];
const LABELS: Readonly<Record<Way, string>> = {
  direct: 'direct',
  proxy: 'a proxy that only passes on',
  gateway: 'through the gateway',
};
const QUANTILES = [0.1, 0.5, 0.9, 0.99];

export const gatewayFirstByte: Scenario = {
  name: 'gateway-first-byte',
  title: 'Time to first byte through the gateway',
  question: `What does the gateway add to the time to the first byte, with ${STREAMS} streams at once?`,
  workload: `${STREAMS} clients, each reading one stream after the other: chat completions of 20
events, ${DELAY_MS} ms apart, for ${PAYERS} payers. Every third stream goes through the gateway, which
authenticates, checks the balance, makes the intent durable and only then calls the provider.
Provider, gateway, database and clients share the machine.`,
  baseline:
    'The same provider without the gateway, and through a proxy of the same libraries that only ' +
    'passes on, by the same clients, in turns: the other streams that are open at the time.',
  run,
};

async function run(bench: Bench): Promise<Findings> {
  const rig = await startGatewayRig(bench);
  const body = {
    model: 'gpt-4.1-nano',
    stream: true,
    metadata: { delay_ms: String(DELAY_MS) },
    messages: [{ role: 'user', content: 'Say what it holds. '.repeat(60) }],
  };
  const timesMs: Record<Way, number[]> = { direct: [], proxy: [], gateway: [] };
  let answered = 0;
  try {
    // Connections are open, and both processes warm, before anything is measured.
    for (let warm = 0; warm < 8; warm++) {
      const sent = Array.from({ length: STREAMS }, (_, payer) =>
        Promise.all(WAYS.map((way) => rig.send(way, { ...body, metadata: {} }, payer))),
      );
      answered += (await Promise.all(sent)).length;
    }
    const endsAt = performance.now() + (bench.options.seconds ?? bench.pick(45, 4)) * 1_000;
    const client = async (index: number) => {
      // Out of step: streams begin at any time, not all at once.
      await sleep((index / STREAMS) * STREAM_MS);
      for (let turn = index; performance.now() < endsAt; turn++) {
        const way = WAYS[turn % WAYS.length] as Way;
        const { firstByteMs } = await rig.send(way, body, index);
        timesMs[way].push(firstByteMs);
        if (way === 'gateway') answered++;
        await sleep((index * 37 + turn * 11) % 100);
      }
    };
    await Promise.all(Array.from({ length: STREAMS }, (_, index) => client(index)));
    return toFindings(timesMs, await rig.check(answered));
  } finally {
    await rig.stop();
  }
}

function toFindings(timesMs: Record<Way, number[]>, checks: Findings['checks']): Findings {
  const at = (way: Way, q: number) => round(quantile(timesMs[way], q), 3);
  const rows = QUANTILES.map((q) => {
    const [direct, proxy, gateway] = [at('direct', q), at('proxy', q), at('gateway', q)];
    return [
      `p${q * 100}`,
      direct,
      proxy,
      gateway,
      round(gateway - direct, 3),
      round(gateway - proxy, 3),
    ];
  });
  const counts = ['streams', ...WAYS.map((way) => timesMs[way].length), null, null];
  return {
    tables: [
      {
        title: 'Time to first byte, ms',
        columns: ['', ...WAYS.map((way) => LABELS[way]), 'gateway to direct', 'gateway to proxy'],
        rows: [...rows, counts],
      },
    ],
    charts: [
      {
        type: 'line',
        name: 'distribution',
        title: 'Time to first byte',
        xLabel: 'share of streams, %',
        yLabel: 'ms',
        lines: WAYS.map((way) => toLine(way, timesMs[way])),
      },
    ],
    checks,
  };
}

function toLine(way: Way, values: readonly number[]) {
  const shares = [1, 5, 10, 25, 50, 75, 90, 95, 99];
  return {
    label: LABELS[way],
    kind: way === 'gateway' ? ('ours' as const) : ('limit' as const),
    points: shares.map((share): [number, number] => [
      share,
      round(quantile(values, share / 100), 3),
    ]),
  };
}
