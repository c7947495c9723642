-- Position of a row that this transaction writes (R5: of the top-level transaction). The ledger's
-- own statements spell this out (src/counter/position.sql.ts); as a column default it counts rows
-- of programs that know no position (R7, `migrate --count-foreign-rows on`). Those have whatever search
-- path they have, so names are written with their schema: `migrate` puts the ledger's in place of
-- `public`.
CREATE OR REPLACE FUNCTION microdollar_position() RETURNS bigint
LANGUAGE sql VOLATILE AS $$
  select coalesce(
    nullif(current_setting(
      'microdollar.generation_' || 'public.microdollar_usage'::regclass::oid::text, true), '')::bigint,
    public.microdollar_generation()) + txid_current()
$$;
