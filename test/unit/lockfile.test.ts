import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

interface Entry {
  link?: boolean;
  integrity?: string;
  resolved?: string;
}

it('every package of the lock is pinned by what is in it, and comes from whatever registry one has', () => {
  const lock: { packages: Record<string, Entry> } = JSON.parse(
    readFileSync('package-lock.json', 'utf8'),
  );
  const packages = Object.entries(lock.packages).filter(([name, { link }]) => name !== '' && !link);
  expect(packages.length).toBeGreaterThan(100);
  const loose = packages.filter(
    ([, { integrity, resolved }]) => !integrity?.startsWith('sha512-') || resolved !== undefined,
  );
  expect(loose).toEqual([]);
});
