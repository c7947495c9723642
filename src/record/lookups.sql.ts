import { plainArray, type Statement, textArray } from '../db/statement.js';
import { LOOKUP_NAMES, type LookupName } from '../schema/lookupNames.js';

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

/**
 * Those of the values whose row is gone, or has another id. By primary key, and only in the tables that
 * are asked for: a statement for each set of them, which is about one an application.
 */
export function lostLookupsStatement(
  known: readonly { name: LookupName; value: string; id: number }[],
): Statement {
  const names = LOOKUP_NAMES.filter((name) => known.some((each) => each.name === name));
  const bits = names.reduce((sum, name) => sum | (1 << LOOKUP_NAMES.indexOf(name)), 0);
  return {
    name: `microdollar_lost_lookups_${bits.toString(36)}`,
    text: `/* microdollar.lostLookups */
${names
  .map(
    (name, index) => `select '${name}' as name, k.value
from unnest($${2 * index + 1}::integer[], $${2 * index + 2}::text[]) as k(id, value)
where (select l.${name} from ${name} as l where l.${name}_id = k.id) is distinct from k.value`,
  )
  .join('\nunion all\n')}`,
    values: names.flatMap((name) => {
      const own = known.filter((each) => each.name === name);
      return [plainArray(own.map(({ id }) => id)), textArray(own.map(({ value }) => value))];
    }),
  };
}

/** Metadata of usage rows that was written with an id which another value has meanwhile. */
export function correctLookupStatement(
  name: LookupName,
  before: number,
  after: number,
  ids: readonly string[],
): Statement {
  return {
    name: `microdollar_correct_${name}`,
    text: `/* microdollar.correctLookup */
update microdollar_usage_metadata
set ${name}_id = $2
where id = any($3::uuid[])
  and ${name}_id = $1`,
    values: [before, after, plainArray(ids)],
  };
}
