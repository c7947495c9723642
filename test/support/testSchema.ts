import { inSchema } from '../../src/db/ledgerSchema.js';
import type { SchemaPlace } from '../../src/db/migrate/schemaPlace.js';

/** The schema of the run's databases, with MICRODOLLAR_TEST_SCHEMA; else `public`. */
export const TEST_SCHEMA = process.env.MICRODOLLAR_TEST_SCHEMA || undefined;

/** It, or `public`, as SQL writes it. */
export const TEST_SCHEMA_SQL = `"${TEST_SCHEMA ?? 'public'}"`;

export const TEST_PLACE: SchemaPlace = {
  identifier: TEST_SCHEMA === undefined ? 'public' : TEST_SCHEMA_SQL,
  exists: true,
};

export function inTestSchema(url: string): string {
  return inSchema(url, TEST_SCHEMA);
}
