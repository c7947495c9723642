/** What `dist` was built from. Plain JavaScript, as build.js is. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const PROJECT = fileURLToPath(new URL('..', import.meta.url));
const INPUTS = [
  'src',
  'scripts/bundleTelemetry.js',
  'package-lock.json',
  'tsconfig.json',
  'tsconfig.build.json',
  'vite.config.ts',
];

export const STAMP = path.join(PROJECT, 'dist', '.built-from');

/** Whether `dist` is complete, and of the inputs with this digest. */
export function isBuiltFrom(digest) {
  return existsSync(STAMP) && readFileSync(STAMP, 'utf8') === digest;
}

/** SHA-256 over names and content of everything that the output depends on. */
export function digestOfInputs() {
  const hash = createHash('sha256');
  for (const input of INPUTS) {
    const at = path.join(PROJECT, input);
    const names =
      input === 'src' ? readdirSync(at, { recursive: true, withFileTypes: true }) : null;
    const files = names
      ? names
          .filter((entry) => entry.isFile())
          .map((entry) => path.join(entry.parentPath, entry.name))
      : [at];
    for (const file of files.sort()) {
      const content = readFileSync(file);
      hash.update(`${path.relative(PROJECT, file)}\0${content.length}\0`).update(content);
    }
  }
  return hash.digest('hex');
}
