import type pg from 'pg';

/** The schema that a migrating session works in, as the server writes it. */
export interface SchemaPlace {
  /** Quoted where it has to be. */
  identifier: string;
  exists: boolean;
}

/** Of the search path, which `connectToMigrate` sets to one schema, there or not yet. */
const PLACE = `
select quote_ident(s.name) as identifier,
  exists (select from pg_namespace as n where n.nspname = s.name) as exists
from (select (parse_ident(current_setting('search_path')))[1] as name) as s`;

export async function readSchemaPlace(client: pg.Client): Promise<SchemaPlace> {
  const [place] = (await client.query<SchemaPlace>(PLACE)).rows;
  if (place === undefined) throw new Error('a query without rows');
  return place;
}

/**
 * A statement of the migrations, or of schema.json, for another schema. They say `public`, as
 * drizzle-kit and the catalog do: before a name, and in the search path of a function. A name has no
 * quotes (ledgerSchema.ts), so it fits into a text as it is.
 */
export function forSchema(text: string, { identifier }: Pick<SchemaPlace, 'identifier'>): string {
  if (identifier === 'public') return text;
  return text
    .replaceAll('"public".', `${identifier}.`)
    .replace(/\bpublic\./g, `${identifier}.`)
    .replaceAll('pg_catalog, public, pg_temp', `pg_catalog, ${identifier}, pg_temp`)
    .replaceAll(
      `'pg_catalog', 'public', 'pg_temp'`,
      `'pg_catalog', '${identifier.replaceAll('"', '')}', 'pg_temp'`,
    );
}
