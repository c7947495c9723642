import { existsSync } from 'node:fs';
import { findPgbouncer } from '../faults/support/findPgbouncer.js';
import { testDataDir } from './testData.js';

/** Tests on what a clone does not bring: run where it is, and everywhere where all is demanded. */
interface AdditionalSuite {
  files: string;
  /** What it needs, with the remedy. */
  needs: string;
  isThere(): boolean;
  /** CI has it. Default true. */
  isInCi?: boolean;
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
  {
    files: 'test/citus/**',
    needs:
      'Citus, a coordinator with two workers: MICRODOLLAR_CITUS_URL (docs/operations/citus.md)',
    isThere: () => Boolean(process.env.MICRODOLLAR_CITUS_URL),
    isInCi: false,
  },
];

/** Those that cannot be run here; with MICRODOLLAR_TEST_ALL none that CI has: then they fail. */
export function findAbsentSuites(): readonly AdditionalSuite[] {
  const isCi = Boolean(process.env.MICRODOLLAR_TEST_ALL);
  return ADDITIONAL_SUITES.filter((suite) => !suite.isThere() && !(isCi && (suite.isInCi ?? true)));
}
