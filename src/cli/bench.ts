import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { LedgerError } from '../errors.js';
import { packageFile } from '../packageFiles.js';
import type { CommandContext, CommandStatus, Register } from './context.js';

const ROOT = packageFile('.') ?? '';

interface BenchCommandOptions {
  scenario?: string[];
  seconds?: string;
  quick?: true;
}

export const registerBench: Register = (command, run) => {
  command
    .option('--scenario <name...>', 'only these scenarios')
    .option('--seconds <n>', 'measured seconds per approach')
    .option('--quick', 'a short run, whose figures are not kept')
    .action((options: BenchCommandOptions) => run((context) => bench(context, options)));
};

/** The suite is part of the source tree, not of the package: it measures against alternatives. */
async function bench(
  { output }: CommandContext,
  options: BenchCommandOptions,
): Promise<CommandStatus> {
  const suite = path.join(ROOT, 'bench/main.ts');
  if (!existsSync(suite)) {
    throw new LedgerError(
      'invalid_request',
      'the benchmark suite comes with the source, not with the installed package; ' +
        'in a clone of the repository: npm ci && npm run bench',
    );
  }
  const args = [
    ...(options.scenario ?? []).flatMap((name) => ['--scenario', name]),
    ...(options.seconds === undefined ? [] : ['--seconds', options.seconds]),
    ...(options.quick ? ['--quick'] : []),
    ...(output.json ? ['--json'] : []),
  ];
  const status = await runNode(['--import', 'tsx', suite, ...args]);
  if (status === 2) throw new LedgerError('invalid_request', 'see the message above');
  return status === 0 ? 0 : 1;
}

function runNode(args: readonly string[]): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: ROOT, stdio: 'inherit' });
    child.on('error', reject);
    child.on('exit', resolve);
  });
}
