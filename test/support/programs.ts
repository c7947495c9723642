import path from 'node:path';
import { inject } from 'vitest';

/** Where the project lies compiled; its programs run in there by their names in the repository. */
export const compiledProject = (): string => inject('compiledProject');

/** For `spawn(process.execPath, ...)`: a program by its source's name in the repository. */
export function programPath(source: string): string {
  return path.join(compiledProject(), source.replace(/\.ts$/, '.js'));
}
