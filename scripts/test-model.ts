/**
 * Random programs against the model, more than `npm test` runs:
 * `npm run test:model -- --programs 100000 [--seed 42] [--minutes 60]`.
 */
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    programs: { type: 'string', default: '10000' },
    seed: { type: 'string' },
    minutes: { type: 'string' },
  },
});
for (const [name, value] of Object.entries(values)) {
  if (!/^-?\d+$/.test(value)) {
    console.error(`--${name} must be a whole number`);
    process.exit(2);
  }
}
const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 30));
console.log(`${values.programs} programs, seed ${seed}`);
const child = spawn('npx', ['vitest', 'run', 'test/property/ledgerModel'], {
  stdio: 'inherit',
  env: {
    ...process.env,
    MODEL_PROGRAMS: values.programs,
    MODEL_SEED: seed,
    ...(values.minutes === undefined ? {} : { MODEL_MINUTES: values.minutes }),
  },
});
child.on('exit', (code) => process.exit(code ?? 1));
