import { existsSync } from 'node:fs';
import { findPgbouncer } from '../faults/support/findPgbouncer.js';
import { testDataDir } from './testData.js';

/** Tests on what a clone does not bring: run where it is, and everywhere where all is demanded. */
interface AdditionalSuite {
  files: string;
  /** What it needs, with the remedy. */
  needs: string;
  isThere(): boolean;
}

const ADDITIONAL_SUITES: readonly AdditionalSuite[] = [
  {
    files: 'test/realInputs/**',
    needs: 'recordings of real providers and the Azure trace: MICRODOLLAR_TEST_DATA',
    isThere: () => Boolean(process.env.MICRODOLLAR_TEST_DATA) || existsSync(testDataDir()),
  },
  {
    files: 'test/faults/pgbouncer.test.ts',
    needs: 'pgbouncer: apt-get install pgbouncer, or PGBOUNCER_PATH',
    isThere: () => findPgbouncer() !== null,
  },
];

/** Those that cannot be run here; none with MICRODOLLAR_TEST_ALL, as CI has it: then they fail. */
export function findAbsentSuites(): readonly AdditionalSuite[] {
  if (process.env.MICRODOLLAR_TEST_ALL) return [];
  return ADDITIONAL_SUITES.filter((suite) => !suite.isThere());
}
