import { readFileSync } from 'node:fs';

/** Of this package: two folders up, from src/server and from dist/server alike. */
export function readPackageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return version;
}
