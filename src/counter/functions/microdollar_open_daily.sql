-- Creates the daily row of a key, at zero. False, and nothing done, when another transaction may be
-- creating it or it exists already. Never waits (R8).
CREATE OR REPLACE FUNCTION microdollar_open_daily(
  p_kilo_user_id text, p_organization_id uuid, p_usage_date date
) RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off AS $$
begin
  if not pg_try_advisory_xact_lock(1297369170 # 'ledger_settings'::regclass::integer,
    microdollar_key_bucket(p_usage_date, 'microdollar_usage_daily|' || p_kilo_user_id || '|'
      || coalesce(p_organization_id::text, '')))
  then
    return false;
  end if;
  -- A new statement, so a snapshot taken after the lock.
  if p_organization_id is null then
    perform from microdollar_usage_daily as d
    where d.kilo_user_id = p_kilo_user_id
      and d.organization_id is null
      and d.usage_date = p_usage_date;
  else
    perform from microdollar_usage_daily as d
    where d.kilo_user_id = p_kilo_user_id
      and d.organization_id = p_organization_id
      and d.usage_date = p_usage_date;
  end if;
  if found then
    return false;
  end if;
  insert into microdollar_usage_daily (kilo_user_id, organization_id, usage_date)
  values (p_kilo_user_id, p_organization_id, p_usage_date);
  return true;
end
$$;
