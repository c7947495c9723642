/**
 * Everything at once, for longer than in `npm test`:
 * `npm run test:chaos -- --seconds 300 [--seed 42]`.
 */
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '300' }, seed: { type: 'string' } },
});
for (const [name, value] of Object.entries(values)) {
  if (!/^\d+$/.test(value)) {
    console.error(`--${name} must be a whole number`);
    process.exit(2);
  }
}
const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 31));
const child = spawn('npx', ['vitest', 'run', 'test/chaos'], {
  stdio: 'inherit',
  env: { ...process.env, CHAOS_SECONDS: values.seconds, FAULT_SEED: seed },
});
child.on('exit', (code) => process.exit(code ?? 1));
