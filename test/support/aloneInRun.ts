import { mkdir, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { compiledProject } from './programs.js';

/** One process of the run at a time does what has this name; the others wait for their turn. */
export async function aloneInRun<Result>(
  name: string,
  work: () => Promise<Result>,
): Promise<Result> {
  // In the run's own directory: a run that is killed leaves no lock to the next one.
  const lock = path.join(compiledProject(), `${name}.lock`);
  const take = () =>
    mkdir(lock).then(
      () => true,
      () => false,
    );
  while (!(await take())) await sleep(50);
  return work().finally(() => rmdir(lock));
}
