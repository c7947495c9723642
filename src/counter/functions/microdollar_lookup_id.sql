-- Id of a lookup value, created if need be; null when another transaction may be creating it.
-- Never waits. Call it in a statement of its own, so that the id is committed before it is cached
-- (R12).
CREATE OR REPLACE FUNCTION microdollar_lookup_id(p_lookup text, p_value text) RETURNS integer
LANGUAGE plpgsql SET enable_seqscan = off AS $$
declare
  v_id integer;
begin
  execute format('select %1$I from %2$I where %2$I = $1', p_lookup || '_id', p_lookup)
    into v_id using p_value;
  if v_id is not null then
    return v_id;
  end if;
  if not pg_try_advisory_xact_lock(1297369170,
    microdollar_key_bucket(null, p_lookup || '|' || p_value))
  then
    return null;
  end if;
  execute format('select %1$I from %2$I where %2$I = $1', p_lookup || '_id', p_lookup)
    into v_id using p_value;
  if v_id is null then
    execute format('insert into %2$I (%2$I) values ($1) returning %1$I',
      p_lookup || '_id', p_lookup) into v_id using p_value;
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
