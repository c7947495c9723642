import { type Statement, textArray } from '../db/statement.js';

/** Ids of lookup values, created where needed, in a statement of its own (R12). */
export function resolveLookupsStatement(
  names: readonly string[],
  values: readonly string[],
): Statement {
  return {
    name: 'microdollar_resolve_lookups',
    text: `/* microdollar.resolveLookups */
select v.place::integer as place, microdollar_lookup_id(v.lookup, v.value) as id
from unnest($1::text[], $2::text[]) with ordinality as v(lookup, value, place)`,
    values: [textArray(names), textArray(values)],
  };
}

/** Ids of lookup values that exist already; creates nothing. */
export function findLookupsStatement(
  names: readonly string[],
  values: readonly string[],
): Statement {
  return {
    name: 'microdollar_find_lookups',
    text: `/* microdollar.findLookups */
select v.place::integer as place, microdollar_find_lookup_id(v.lookup, v.value) as id
from unnest($1::text[], $2::text[]) with ordinality as v(lookup, value, place)`,
    values: [textArray(names), textArray(values)],
  };
}
