import type { Failure } from '../api.js';
import { ErrorNotice } from './Notice.js';

/** A refusal that is about no field of the form. */
export function Unplaced({
  failure,
  fields,
  what,
}: {
  failure: Failure | null;
  fields: readonly string[];
  what: string;
}) {
  if (failure === null || fields.includes(String(failure.details.field))) return null;
  return <ErrorNotice failure={failure} what={what} />;
}
