import { LedgerError } from '../errors.js';
import { toLedgerError } from './sqlstate.js';

/**
 * The schema that a ledger lives in. Statements name none: every connection has it as its search path
 * from the first byte, by the startup options in the URL. So whatever connects with that URL, psql
 * too, finds the ledger there, and only this file knows of it.
 */
const DEFAULT_SCHEMA = 'public';

/** What PostgreSQL keeps of a name. */
const MAX_BYTES = 63;
/** What needs no escape in a function's body, a setting or a URL's options but the space. */
const NAME = /^[\p{L}\p{N}_]([\p{L}\p{M}\p{N}_. -]*[\p{L}\p{M}\p{N}_.-])?$/u;

/** As startup options have it: a backslash before a space keeps a word together. */
const SEARCH_PATH = /(?:^|\s+)(?:-c\s*|--)search_path=((?:\\.|\S)*)/gi;

/**
 * The URL whose connections are in the schema; where none is named, as it is. Not for a pooler in
 * transaction mode, which takes no startup options: there the role has it (`assertInSchema`).
 * @throws LedgerError `invalid_request` for the name
 */
export function inSchema(url: string, schema: string | null | undefined): string {
  if (schema === undefined || schema === null) return url;
  const value = `"${validateSchema(schema)}"`.replaceAll(' ', '\\ ');
  const { rest, options } = splitUrl(withoutSchema(url));
  return joinUrl(rest, `${options} -c search_path=${value}`.trim());
}

/**
 * A ledger's options with its URLs in its schema.
 * @throws LedgerError `invalid_request` without a URL, or for the schema's name
 */
export function urlsInSchema<
  Options extends {
    databaseUrl: string;
    replicaUrl?: string | undefined;
    schema?: string | undefined;
    preparedStatements?: boolean | undefined;
  },
>(options: Options): Options {
  if (!/^postgres(ql)?:\/\//.test(String(options?.databaseUrl))) {
    throw new LedgerError(
      'invalid_request',
      'databaseUrl is required, as a URL: createLedger({ databaseUrl: "postgres://..." })',
      { details: { field: 'databaseUrl' } },
    );
  }
  const { databaseUrl, replicaUrl, schema, preparedStatements: isDirect = true } = options;
  if (schema !== undefined) validateSchema(schema);
  if (!isDirect) return options;
  return {
    ...options,
    databaseUrl: inSchema(databaseUrl, schema),
    replicaUrl: replicaUrl === undefined ? undefined : inSchema(replicaUrl, schema),
  };
}

/** @throws LedgerError `invalid_request` */
export function validateSchema(name: string): string {
  const isName = NAME.test(name) && Buffer.byteLength(name) <= MAX_BYTES;
  if (isName && !/^pg_|^information_schema$/.test(name)) return name;
  throw new LedgerError(
    'invalid_request',
    isName
      ? 'schema is one of PostgreSQL itself'
      : `schema must be letters, digits, _, -, dots and spaces, of at most ${MAX_BYTES} bytes`,
    { details: { field: 'schema' } },
  );
}

/** The schema that the URL's connections are in; `public` where it names none, or several. */
export function schemaOf(url: string): string {
  const [, path = ''] = [...splitUrl(url).options.matchAll(SEARCH_PATH)].at(-1) ?? [];
  const [, quoted, plain] = /^(?:"([^"]+)"|([a-z_]\w*))$/i.exec(path.replace(/\\(.)/g, '$1')) ?? [];
  return quoted ?? plain?.toLowerCase() ?? DEFAULT_SCHEMA;
}

export function isDefaultSchema(schema: string): boolean {
  return schema === DEFAULT_SCHEMA;
}

/** The URL for another database, where the schema means nothing. */
export function withoutSchema(url: string): string {
  const { rest, options } = splitUrl(url);
  return joinUrl(rest, options.replace(SEARCH_PATH, '').trim());
}

/** A URL, and its startup options apart: pg takes those of a URL in place of a pool's own. */
export function splitUrl(url: string): { rest: string; options: string } {
  const [base = '', query] = url.split(/\?(.*)/s);
  if (query === undefined) return { rest: url, options: '' };
  const isOptions = (pair: string) => pair.startsWith('options=');
  const others = query.split('&').filter((pair) => !isOptions(pair));
  const options = query.split('&').filter(isOptions).at(-1)?.slice('options='.length) ?? '';
  return {
    rest: others.length === 0 ? base : `${base}?${others.join('&')}`,
    options: decodeURIComponent(options.replaceAll('+', ' ')),
  };
}

/** Not through `URL`: it writes a space as `+`, which libpq does not read. */
function joinUrl(rest: string, options: string): string {
  if (options === '') return rest;
  return `${rest}${rest.includes('?') ? '&' : '?'}options=${encodeURIComponent(options)}`;
}

/**
 * Ends the name of a connection, for `pg_stat_activity`: ledgers of one database are told apart.
 * PostgreSQL keeps 63 bytes of ASCII.
 */
export function applicationSuffix(schema: string): string {
  if (isDefaultSchema(schema)) return '';
  return ` @${schema.replace(/[^ -~]/g, '?').slice(0, 40)}`;
}

/**
 * SQL: namespace of the ledger that the session's search path leads to; where there is none yet, of
 * what is to be adopted.
 */
export const LEDGER_NAMESPACE = `coalesce(
    (select l.relnamespace from pg_class as l where l.oid = to_regclass('ledger_settings')),
    (select n.oid from pg_namespace as n where n.nspname = current_schema()))`;

interface Queryable {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
}

/**
 * That connections are in the schema which was asked for: a pooler may drop what they ask for, and
 * what is written would go to another ledger.
 * @throws LedgerError `unavailable` with the remedy
 */
export async function assertInSchema(
  database: Queryable,
  schema: string | null | undefined,
): Promise<void> {
  if (schema === undefined || schema === null) return;
  const { rows } = await database
    .query(
      `select coalesce(current_schema() = $1, false) as is_in,
        exists (select from pg_namespace as n where n.nspname = $1) as is_there`,
      [validateSchema(schema)],
    )
    .catch((error: unknown) => {
      throw toLedgerError(error);
    });
  const { is_in, is_there } = rows[0] as { is_in: boolean; is_there: boolean };
  if (is_in) return;
  throw new LedgerError(
    'unavailable',
    is_there
      ? `connections are not in the schema ${schema}: behind a pooler in transaction mode the role ` +
          `needs it, alter role ... set search_path = "${schema}"`
      : `there is no schema ${schema}: run microdollar migrate, or name the schema of your ledger`,
    { details: { field: 'schema', schema } },
  );
}
