/**
 * Random programs against the model, more than `npm test` runs:
 * `npm run test:model -- --programs 100000 [--seed 42]`.
 */
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { programs: { type: 'string', default: '10000' }, seed: { type: 'string' } },
});
for (const [name, value] of Object.entries(values)) {
  if (!/^-?\d+$/.test(value)) {
    console.error(`--${name} must be a whole number`);
    process.exit(2);
  }
}
const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 31));
console.log(`${values.programs} programs, seed ${seed}`);
const child = spawn('npx', ['vitest', 'run', 'test/property'], {
  stdio: 'inherit',
  env: { ...process.env, MODEL_PROGRAMS: values.programs, MODEL_SEED: seed },
});
child.on('exit', (code) => process.exit(code ?? 1));
