import type { Bench } from '../lib/bench.js';
import type { Findings, Scenario } from '../lib/scenario.js';
import { cpuSeconds, residentMegabytes } from '../lib/startedServer.js';
import { median, quantilesOf, round } from '../lib/statistics.js';
import { type GatewayRig, PAYERS, startGatewayRig, type Way } from './gatewayRig.js';

const CALLERS = 64;
const SLICE_MS = 2_000;
const TARGET_PER_SECOND = 1_000;
const WAYS = ['direct', 'gateway'] as const satisfies readonly Way[];
type Measured = (typeof WAYS)[number];
const BODY = {
  model: 'gpt-4.1-nano',
  messages: [{ role: 'user', content: 'Say what it holds.' }],
};

export const gatewayThroughput: Scenario = {
  name: 'gateway-throughput',
  title: 'Small requests through the gateway',
  question: 'How many small requests, not streamed, does one gateway process meter per second?',
  workload: `${CALLERS} callers in a closed loop, for ${PAYERS} payers; answers of 0.6 kB that the
provider has at once. Slices of ${SLICE_MS / 1_000} s, direct and through the gateway in turns. Every
request is an intent in the database before the call and a priced row before the answer ends.`,
  baseline:
    'The same provider without the gateway, same clients: what the machine does with the HTTP alone.',
  run,
};

interface Slice {
  perSecond: number;
  latenciesMs: number[];
  /** Of the gateway process, a request. */
  cpuMs: number;
}

async function run(bench: Bench): Promise<Findings> {
  const rig = await startGatewayRig(bench);
  const slices: Record<Measured, Slice[]> = { direct: [], gateway: [] };
  let answered = 0;
  try {
    answered += (await runSlice(rig, 'gateway', SLICE_MS)).latenciesMs.length;
    const rounds = Math.ceil(((bench.options.seconds ?? bench.pick(12, 2)) * 1_000) / SLICE_MS);
    for (let turn = 0; turn < rounds; turn++) {
      for (const way of WAYS) {
        const slice = await runSlice(rig, way, SLICE_MS);
        slices[way].push(slice);
        if (way === 'gateway') answered += slice.latenciesMs.length;
      }
    }
    const megabytes = residentMegabytes(rig.gatewayPid);
    return toFindings(slices, megabytes, await rig.check(answered));
  } finally {
    await rig.stop();
  }
}

async function runSlice(rig: GatewayRig, way: Measured, durationMs: number): Promise<Slice> {
  const latenciesMs: number[] = [];
  const cpuBefore = cpuSeconds(rig.gatewayPid);
  const startedAt = performance.now();
  const caller = async (payer: number) => {
    while (performance.now() - startedAt < durationMs) {
      latenciesMs.push((await rig.send(way, BODY, payer)).totalMs);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, (_, index) => caller(index)));
  const seconds = (performance.now() - startedAt) / 1_000;
  const cpuMs = ((cpuSeconds(rig.gatewayPid) - cpuBefore) * 1_000) / latenciesMs.length;
  return { perSecond: round(latenciesMs.length / seconds, 3), latenciesMs, cpuMs };
}

function toFindings(
  slices: Record<Measured, Slice[]>,
  megabytes: number,
  checks: Findings['checks'],
): Findings {
  const perSecond = (way: Measured) => slices[way].map((slice) => slice.perSecond);
  const row = (label: string, way: Measured) => {
    const { p50, p99 } = quantilesOf(slices[way].flatMap(({ latenciesMs }) => latenciesMs));
    return [label, median(perSecond(way)), Math.max(...perSecond(way)), p50, p99];
  };
  return {
    comparisons: [
      {
        subject: 'requests through the gateway',
        baseline: `${TARGET_PER_SECOND} a second`,
        measure: 'requests/s',
        ratios: perSecond('gateway').map((each) => round(each / TARGET_PER_SECOND, 3)),
        target: { atLeast: 0.9 },
      },
    ],
    tables: [
      {
        title: `Requests per second, ${CALLERS} callers`,
        columns: ['', 'requests/s, median', 'best slice', 'p50 ms', 'p99 ms'],
        rows: [row('direct', 'direct'), row('through the gateway', 'gateway')],
      },
      {
        title:
          'The gateway process: CPU a request, which other load touches little, and memory after the run',
        columns: ['CPU ms a request', 'resident MB'],
        rows: [[round(median(slices.gateway.map(({ cpuMs }) => cpuMs)), 3), Math.round(megabytes)]],
      },
    ],
    checks,
  };
}
