-- Base of the positions of this session's writes: generation << 44 (R6). In a cluster that the
-- ledger does not know, a restored dump or a promoted subscriber, it is above every mark: what is
-- written stays unsettled, so exact, until `microdollar migrate` raises the generation. A cluster is
-- known by its system identifier, and by having reached `position_seen`: a physical copy has the
-- same identifier, and a dump of the original may hold marks above its transaction ids.
--
-- A session stays in its cluster, so a known base is kept for it, one a ledger: a host's session may
-- write to ledgers in several schemas. An unknown one is asked anew each time, for `migrate` may end
-- that state. Where the owner may not read the identifier (some hosted servers), only the second test
-- is made: in a statement of its own, for a statement that names a function which its role may not
-- execute fails whether it would be reached or not.
--
-- With the owner's rights: as a column default it runs for programs that may insert usage, and may
-- not read the ledger's settings (R7).
CREATE OR REPLACE FUNCTION microdollar_generation() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
declare
  v_base bigint;
  v_has_reached boolean;
  v_known text;
  v_present text;
begin
  select s.generation << 44, s.system_identifier,
    (s.generation << 44) + txid_snapshot_xmax(txid_current_snapshot()) >= s.position_seen
  into v_base, v_known, v_has_reached
  from ledger_settings as s
  where s.id = 1;
  if has_function_privilege('pg_control_system()', 'execute') then
    select c.system_identifier::text into v_present from pg_control_system() as c;
  end if;
  if v_base is null or not v_has_reached or v_present <> v_known then
    return 524287::bigint << 44;
  end if;
  perform set_config('microdollar.generation_' || 'microdollar_usage'::regclass::oid::text,
    v_base::text, false);
  return v_base;
end
$$;
