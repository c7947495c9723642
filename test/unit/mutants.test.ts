import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MUTANTS } from '../../scripts/mutants/all.js';

const REPOSITORY = path.join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(path.join(REPOSITORY, file), 'utf8');

describe('the table of mutants', () => {
  it('plants each in exactly one place of the sources as they are', () => {
    const misplaced = MUTANTS.map(({ name, file, search }) => ({
      name,
      places: read(file).split(search).length - 1,
    })).filter(({ places }) => places !== 1);
    expect(misplaced).toEqual([]);
  });

  it('names tests that are there', () => {
    const missing = MUTANTS.flatMap(({ tests }) => tests).filter(
      (test) => !existsSync(path.join(REPOSITORY, 'test', `${test}.test.ts`)),
    );
    expect(missing).toEqual([]);
  });
});
