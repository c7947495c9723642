import type { Bench } from '../lib/bench.js';
import type { Scenario } from '../lib/scenario.js';
import { compareGateways, DELAY_MS, type GatewayWay, STREAMS } from './gatewayWays.js';

const WAYS: readonly GatewayWay[] = [
  { name: 'off', options: { holds: 'off' } },
  { name: 'expected, no budgets', options: { holds: 'expected' } },
  { name: 'expected, two budgets', options: { holds: 'expected', withBudgets: true } },
  { name: 'strict, two budgets', options: { holds: 'strict', withBudgets: true } },
];

export const gatewayHolds: Scenario = {
  name: 'gateway-holds',
  title: 'What holding money adds to a request through the gateway',
  question: `What does a hold add to the time to the first byte, and to the database, with ${STREAMS} streams at once?`,
  workload: `${STREAMS} clients, each reading one stream after the other: chat completions of 20
events, ${DELAY_MS} ms apart, for 16 payers. A gateway for each way, in turns, each at each place of a round
once. Two budgets, of the user and of the key, and the balance: three windows a hold. Provider, gateways, database and clients share the machine.`,
  baseline: 'The same with `MICRODOLLAR_HOLDS=off`: the balance is looked at, and nothing held.',
  run: (bench: Bench) => compareGateways(bench, WAYS, 'MICRODOLLAR_HOLDS'),
};
