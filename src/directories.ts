import { existsSync, mkdirSync, rmdirSync, statSync } from 'node:fs';
import path from 'node:path';

/**
 * Makes a directory and those above it. Node's recursive `mkdir` tries for ever where one cannot be
 * made although the one above it is there, as in /proc.
 * @returns the first that was made
 * @throws the system's error (EACCES, EEXIST, ENOENT, ENOTDIR, EROFS, ...)
 */
export function makeDirectories(dir: string, mode = 0o777): string | undefined {
  const missing: string[] = [];
  for (let at = path.resolve(dir); !existsSync(at); at = path.dirname(at)) missing.unshift(at);
  for (const each of missing) {
    try {
      mkdirSync(each, { mode });
    } catch (error) {
      // Made by another process meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  // Some file of that name.
  if (!statSync(dir).isDirectory()) mkdirSync(dir);
  return missing[0];
}

/**
 * Directories to be synced before the names of those that were made are on the disk, with `firstMade` as
 * `makeDirectories` returned it: none where nothing was made.
 */
export function directoriesOfNames(dir: string, firstMade: string | undefined): string[] {
  const parents: string[] = [];
  for (let at = path.resolve(dir); firstMade && at.startsWith(firstMade); at = path.dirname(at)) {
    parents.push(path.dirname(at));
  }
  return parents;
}

/**
 * Takes back `makeDirectories`: removes `dir` and the directories above it, up to the first that
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
