import type { Bench } from '../lib/bench.js';
import type { Findings, Scenario } from '../lib/scenario.js';
import { residentMegabytes } from '../lib/startedServer.js';
import { median, round } from '../lib/statistics.js';
import { startGatewayRig } from './gatewayRig.js';

const AT_ONCE = 64;
const SAMPLES = 20;

export const gatewayMemory: Scenario = {
  name: 'gateway-memory',
  title: 'Memory of the gateway over many streams',
  question: 'Does the memory of the gateway process stay flat over 10,000 streams?',
  workload: `${AT_ONCE} clients, each one stream after the other, 10,000 in all; 22 events a stream.
Resident memory is read ${SAMPLES} times on the way.`,
  baseline: 'The process itself after the first quarter, when its caches and heap have settled.',
  run,
};

async function run(bench: Bench): Promise<Findings> {
  const streams = bench.pick(10_000, 1_000);
  const rig = await startGatewayRig(bench);
  const body = { model: 'gpt-4.1-nano', stream: true, messages: [] };
  const points: [streams: number, megabytes: number][] = [];
  let begun = 0;
  let answered = 0;
  try {
    const client = async (payer: number) => {
      while (begun < streams) {
        begun++;
        await rig.send('gateway', body, payer);
        answered++;
        if (answered % (streams / SAMPLES) === 0) {
          points.push([answered, Math.round(residentMegabytes(rig.gatewayPid))]);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => client(index)));
    return toFindings(points, await rig.check(answered));
  } finally {
    await rig.stop();
  }
}

function toFindings(points: [number, number][], checks: Findings['checks']): Findings {
  const quarter = points.length / 4;
  const megabytes = points.map(([, each]) => each);
  const settled = median(megabytes.slice(quarter, 2 * quarter));
  const last = median(megabytes.slice(3 * quarter));
  return {
    comparisons: [
      {
        subject: 'memory in the last quarter of the streams',
        baseline: 'in the second quarter',
        measure: 'resident MB',
        ratios: [round(last / settled, 3)],
        target: { atMost: 1.15 },
      },
    ],
    tables: [
      {
        title: 'Resident memory of the gateway process',
        columns: ['streams', 'MB'],
        rows: points.filter((_, index) => index % 4 === 3),
      },
    ],
    charts: [
      {
        type: 'line',
        name: 'resident',
        title: 'Resident memory of the gateway process',
        xLabel: 'streams',
        yLabel: 'MB',
        lines: [{ label: 'gateway', kind: 'ours', points }],
      },
    ],
    checks,
  };
}
