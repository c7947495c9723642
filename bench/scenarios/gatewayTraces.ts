import type { Bench } from '../lib/bench.js';
import type { Scenario } from '../lib/scenario.js';
import { compareGateways, DELAY_MS, type GatewayWay, STREAMS } from './gatewayWays.js';

const WAYS: readonly GatewayWay[] = [
  { name: 'off', options: {} },
  { name: 'every request', options: { traces: 'always_on' } },
  { name: 'one in ten', options: { traces: '0.1' } },
];

export const gatewayTraces: Scenario = {
  name: 'gateway-traces',
  title: 'What traces add to a request through the gateway',
  question: `What do spans add to the time to the first byte, and to the gateway's CPU, with ${STREAMS} streams at once?`,
  workload: `${STREAMS} clients, each reading one stream after the other: chat completions of 20
events, ${DELAY_MS} ms apart, for 16 payers. A gateway for each way, in turns; spans and metrics go to a
collector that reads and forgets them. Provider, gateways, collectors, database and clients share the machine.`,
  baseline: 'The same without an exporter: no span is made.',
  run: (bench: Bench) => compareGateways(bench, WAYS, 'traces'),
};
