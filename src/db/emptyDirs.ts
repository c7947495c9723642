import { rmdirSync } from 'node:fs';
import path from 'node:path';

/**
 * Takes back a recursive mkdir: removes `dir` and the directories above it, up to the first that
 * was made, as far as they are empty.
 */
export function removeEmptyDirs(dir: string, firstMade: string): void {
  const last = path.resolve(firstMade);
  try {
    for (let at = path.resolve(dir); at.startsWith(last); at = path.dirname(at)) rmdirSync(at);
  } catch {
    // Somebody else has begun to use it.
  }
}
