import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const NAME = 'microdollar';

/**
 * The directory of this package, above wherever this code lies: `src`, `dist`, or a file that several modules
 * were put into. Null in a bundle of somebody else's, which is not in it.
 */
function findRoot(): string | null {
  // A bundle in CommonJS has none.
  const { url } = import.meta as { url?: string };
  if (url === undefined) return null;
  for (let dir = fileURLToPath(url), parent = path.dirname(dir); parent !== dir; ) {
    [dir, parent] = [parent, path.dirname(parent)];
    if (readManifest(dir)?.name === NAME) return dir;
  }
  return null;
}

function readManifest(dir: string): { name?: string; version?: string } | null {
  const file = path.join(dir, 'package.json');
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null;
}

let root: string | null | undefined;

/** A file or folder of this package, there or not; null where this code is without its package. */
export function packageFile(name: string): string | null {
  if (root === undefined) root = findRoot();
  return root === null ? null : path.join(root, name);
}

export function readPackageVersion(): string {
  const dir = packageFile('.');
  return (dir === null ? null : readManifest(dir)?.version) ?? 'unknown';
}
