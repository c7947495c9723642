-- The same for Exa's monthly row; fixes the month's free allowance, a fact of the settings.
CREATE OR REPLACE FUNCTION microdollar_open_exa_month(
  p_kilo_user_id text, p_organization_id uuid, p_month date
) RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off AS $$
begin
  if not pg_try_advisory_xact_lock(1297369170 # 'ledger_settings'::regclass::integer,
    microdollar_key_bucket(p_month, 'exa_monthly_usage|' || p_kilo_user_id || '|'
      || coalesce(p_organization_id::text, '')))
  then
    return false;
  end if;
  perform from exa_monthly_usage as e
  where e.kilo_user_id = p_kilo_user_id
    and e.organization_id is not distinct from p_organization_id
    and e.month = p_month;
  if found then
    return false;
  end if;
  insert into exa_monthly_usage
    (kilo_user_id, organization_id, month, free_allowance_microdollars)
  select p_kilo_user_id, p_organization_id, p_month, s.exa_free_allowance_microdollars
  from ledger_settings as s
  where s.id = 1;
  return true;
end
$$;
