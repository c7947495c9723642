-- Id of a lookup value, created if need be; null when another transaction may be creating it.
-- Never waits. Call it in a statement of its own, so that the id is committed before it is cached
-- (R12).
--
-- The id is made of the value, in the upper half of the integers, where no sequence comes: a row that
-- a failover or a restore lost comes back with the id that caches and metadata have of it, and no
-- other value is given that id meanwhile.
CREATE OR REPLACE FUNCTION microdollar_lookup_id(p_lookup text, p_value text) RETURNS integer
LANGUAGE plpgsql SET enable_seqscan = off AS $$
declare
  v_id integer;
  v_is_taken boolean;
begin
  execute format('select %1$I from %2$I where %2$I = $1', p_lookup || '_id', p_lookup)
    into v_id using p_value;
  if v_id is not null then
    return v_id;
  end if;
  if not pg_try_advisory_xact_lock(1297369170 # 'ledger_settings'::regclass::integer,
    microdollar_key_bucket(null, p_lookup || '|' || p_value))
  then
    return null;
  end if;
  execute format('select %1$I from %2$I where %2$I = $1', p_lookup || '_id', p_lookup)
    into v_id using p_value;
  if v_id is null then
    for v_seed in 0..63 loop
      v_id := (1073741824 + (hashtextextended(p_value, v_seed) & 1073741823))::integer;
      execute format('select exists (select from %2$I where %1$I = $1)',
        p_lookup || '_id', p_lookup) into v_is_taken using v_id;
      exit when not v_is_taken;
    end loop;
    execute format('insert into %2$I (%1$I, %2$I) values ($1, $2)',
      p_lookup || '_id', p_lookup) using v_id, p_value;
  end if;
  return v_id;
end
$$;
--> statement-breakpoint
-- Id of a lookup value that exists already, else null. For transactions that the caller owns:
-- creating a value there could make others wait for it.
CREATE OR REPLACE FUNCTION microdollar_find_lookup_id(p_lookup text, p_value text) RETURNS integer
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
declare
  v_id integer;
begin
  execute format('select %1$I from %2$I where %2$I = $1', p_lookup || '_id', p_lookup)
    into v_id using p_value;
  return v_id;
end
$$;
