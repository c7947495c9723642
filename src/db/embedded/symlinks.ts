import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';

/** npm cannot pack symlinks: an install script makes them, where install scripts may run. */
export function restoreSymlinks(packageDir: string): void {
  const list = path.join(packageDir, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[];
  for (const link of links) {
    const target = path.join(packageDir, link.target);
    if (existsSync(target)) continue;
    try {
      symlinkSync(path.relative(path.dirname(link.target), link.source), target);
    } catch {
      // Made by someone else meanwhile, or read-only: then the program's own error tells.
    }
  }
}
