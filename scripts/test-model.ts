/**
 * Random programs against the model, more than `npm test` runs:
 * `npm run test:model -- --programs 100000 [--seed 42] [--minutes 60] [--lanes 2]`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

/** A run that is not of whole worlds repeats other programs (test/property/ledgerModel.test.ts). */
const PROGRAMS_OF_A_WORLD = 200;

const { values } = parseArgs({
  options: {
    programs: { type: 'string', default: '10000' },
    seed: { type: 'string' },
    minutes: { type: 'string' },
    lanes: { type: 'string', default: String(availableParallelism()) },
  },
});
for (const [name, value] of Object.entries(values)) {
  if (!/^-?\d+$/.test(value)) {
    console.error(`--${name} must be a whole number`);
    process.exit(2);
  }
}
const programs = Number(values.programs);
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 30));
console.log(`${programs} programs, seed ${seed}`);

// Each with a server of its own, so that no lane sees the transactions of another.
const worlds = Math.ceil(programs / PROGRAMS_OF_A_WORLD);
const share = Math.ceil(worlds / Math.max(1, Number(values.lanes))) * PROGRAMS_OF_A_WORLD;
for (let from = 0; from < programs; from += share) {
  const child = spawn('npx', ['vitest', 'run', 'test/property/ledgerModel'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      MODEL_PROGRAMS: String(Math.min(share, programs - from)),
      MODEL_SEED: String(seed + from),
      ...(values.minutes === undefined ? {} : { MODEL_MINUTES: values.minutes }),
    },
  });
  tell(child, share < programs ? `${from / share + 1}: ` : '');
  child.on('exit', (code) => {
    process.exitCode = Math.max(Number(process.exitCode ?? 0), code ?? 1);
  });
}

function tell({ stdout, stderr }: ChildProcess, prefix: string): void {
  for (const stream of [stdout, stderr]) {
    if (!stream) continue;
    createInterface(stream).on('line', (line) => console.log(`${prefix}${line}`));
  }
}
