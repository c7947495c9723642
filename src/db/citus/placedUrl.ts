import { LedgerError } from '../../errors.js';
import { inSchema, validateSchema, withoutSchema } from '../ledgerSchema.js';

/**
 * The URL of a ledger whose schema Citus places: the coordinator's, with the schema's name as a
 * parameter, and a search path to the views that the ledger keeps beside it (README.md). Whoever opens
 * connections with it goes to the worker that has the schema; other programs refuse it.
 */
export interface CitusPlace {
  /** Without the parameter and without a schema. */
  coordinatorUrl: string;
  /** As Citus knows it. */
  schema: string;
}

const PARAMETER = 'citus_schema';
const IN_URL = new RegExp(`([?&])${PARAMETER}=([^&]*)(&|$)`);
/** So that `localSchemaOf` fits into what PostgreSQL keeps of a name. */
const MAX_BYTES = 57;

/** Schema of the views, on the node that has the schema itself. */
export const localSchemaOf = (schema: string): string => `${schema}.local`;

/** @throws LedgerError `invalid_request` for the schema's name */
export function onCitus(coordinatorUrl: string, schema: string): string {
  validateSchema(schema);
  if (Buffer.byteLength(schema) > MAX_BYTES) {
    throw new LedgerError(
      'invalid_request',
      `a schema that Citus places has a name of at most ${MAX_BYTES} bytes`,
      { details: { field: 'schema' } },
    );
  }
  const separator = coordinatorUrl.includes('?') ? '&' : '?';
  const url = `${coordinatorUrl}${separator}${PARAMETER}=${encodeURIComponent(schema)}`;
  return inSchema(url, localSchemaOf(schema));
}

/** @throws LedgerError `invalid_request` for a ledger that Citus places, with what is done instead */
export function refuseOnCitus(url: string, what: string, instead: string): void {
  if (citusPlaceOf(url) === null) return;
  throw new LedgerError(
    'invalid_request',
    `a ledger that Citus places has no ${what}: ${instead} (docs/operations/citus.md)`,
    { details: { distributed: true } },
  );
}

/** Null for a URL of an ordinary ledger. */
export function citusPlaceOf(url: string): CitusPlace | null {
  const found = IN_URL.exec(url);
  if (found === null) return null;
  const without = url.replace(IN_URL, (_all, before: string, _value, after: string) =>
    after === '&' ? before : '',
  );
  return {
    coordinatorUrl: withoutSchema(without),
    schema: decodeURIComponent(found[2] ?? ''),
  };
}
