import { inSchema } from '../../src/db/ledgerSchema.js';

/** The schema of the run's databases, with MICRODOLLAR_TEST_SCHEMA; else `public`. */
export const TEST_SCHEMA = process.env.MICRODOLLAR_TEST_SCHEMA || undefined;

export function inTestSchema(url: string): string {
  return inSchema(url, TEST_SCHEMA);
}
