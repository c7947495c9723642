import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { inSchema, schemaOf, splitUrl, withoutSchema } from '../../src/db/ledgerSchema.js';
import { forSchema } from '../../src/db/migrate/schemaPlace.js';

const URLS = [
  'postgres://ada:secret@db:5432/ledger',
  'postgres://ada:p%40ss@db/ledger?sslmode=require',
  'postgres://db/ledger?options=-c%20jit%3Doff&sslmode=require',
];
const NAMES = ['ledger', 'My ledger', 'LEDGER', 'a.b-c', 'Größe', '2026', 'x'.repeat(63)];

/** What pg sends as startup options. */
const startupOf = (url: string) =>
  (new pg.Client({ connectionString: url }) as unknown as { connectionParameters: pg.ClientConfig })
    .connectionParameters;

describe('a URL in a schema', () => {
  it.each(URLS)('%s says the schema, and everything else as before', (url) => {
    for (const name of NAMES) {
      const placed = inSchema(url, name);
      expect(schemaOf(placed)).toBe(name);
      expect(withoutSchema(placed)).toBe(withoutSchema(url));
      expect(inSchema(placed, name)).toBe(placed);
      expect(schemaOf(inSchema(placed, 'other'))).toBe('other');
      const { options = '', ...others } = startupOf(placed);
      const { options: before = '', ...othersBefore } = startupOf(url);
      expect(JSON.stringify(others)).toBe(JSON.stringify(othersBefore));
      expect(options).toBe(`${before} -c search_path="${name.replace(' ', '\\ ')}"`.trim());
    }
  });

  it('is the URL itself where no schema is named', () => {
    for (const url of URLS) expect(inSchema(url, undefined)).toBe(url);
    expect(URLS.map(schemaOf)).toEqual(['public', 'public', 'public']);
  });

  it('is read as PostgreSQL reads it', () => {
    const asked = (options: string) =>
      schemaOf(`postgres://db/x?options=${encodeURIComponent(options)}`);
    expect(asked('-c search_path=Ledger')).toBe('ledger');
    expect(asked('--search_path="L" -csearch_path=m')).toBe('m');
    expect(asked('-c jit=off -c search_path="a\\ b" -c work_mem=1MB')).toBe('a b');
    // Several: not a schema that was asked for.
    expect(asked('-c search_path=a,b')).toBe('public');
  });

  it('gives what a pool adds its own options to', () => {
    const { rest, options } = splitUrl(inSchema(URLS[2] ?? '', 'l'));
    expect(rest).toBe('postgres://db/ledger?sslmode=require');
    expect(options).toBe('-c jit=off -c search_path="l"');
  });

  it.each(['', ' a', 'a ', 'a"b', "a'b", '$user', 'a$b', 'a,b', 'a\\b', 'a\nb', '-a'])(
    'refuses the name %j',
    (name) => {
      expect(() => inSchema('postgres://db/x', name)).toThrow('schema must be letters');
    },
  );

  it('refuses names that are too long, and those of PostgreSQL', () => {
    expect(() => inSchema('postgres://db/x', 'é'.repeat(32))).toThrow('at most 63 bytes');
    for (const name of ['pg_temp', 'pg_catalog', 'information_schema']) {
      expect(() => inSchema('postgres://db/x', name)).toThrow('one of PostgreSQL itself');
    }
  });
});

describe('a statement for a schema', () => {
  it('names it wherever it named public, and is the same for public', () => {
    const text =
      `create view "public"."v" as select public.f('public.t'::regclass);` +
      ` set search_path = pg_catalog, public, pg_temp; SET search_path TO 'pg_catalog', 'public', 'pg_temp'`;
    expect(forSchema(text, { identifier: 'public' })).toBe(text);
    expect(forSchema(text, { identifier: '"My ledger"' })).toBe(
      `create view "My ledger"."v" as select "My ledger".f('"My ledger".t'::regclass);` +
        ` set search_path = pg_catalog, "My ledger", pg_temp;` +
        ` SET search_path TO 'pg_catalog', 'My ledger', 'pg_temp'`,
    );
  });
});
