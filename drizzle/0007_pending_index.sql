-- Custom: functions, which drizzle-kit cannot express. As in 0001 and 0006, but for how a payer's pending
-- rows are reached: as one range of the index on (payer, xid). Said as "payer = ... and xid >= ...", the
-- primary key on (xid, id) fits as well, and statistics taken while one payer had all pending rows make
-- it look as good: then every write reads the pending rows of everybody. The range fits one index only.
CREATE OR REPLACE FUNCTION microdollar_user_balance(p_kilo_user_id text) RETURNS bigint
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
declare
  v_balance bigint;
  v_has_exa boolean;
begin
  select u.microdollars_used + pending.usage_microdollars, pending.has_exa
  into v_balance, v_has_exa
  from kilocode_users as u
  cross join lateral (
    select coalesce(sum(p.cost_microdollars) filter (where p.usage_date is not null), 0)
        as usage_microdollars,
      coalesce(bool_or(p.exa_month is not null), false) as has_exa
    from microdollar_usage_pending as p
    where (p.kilo_user_id, p.xid) >= (u.id, u.pending_floor)
      and p.kilo_user_id <= u.id
      and p.organization_id is null
  ) as pending
  where u.id = p_kilo_user_id;
  if v_has_exa then
    select b.microdollars_used into v_balance
    from kilocode_user_balances as b
    where b.kilo_user_id = p_kilo_user_id;
  end if;
  return v_balance;
end
$$;
--> statement-breakpoint

-- Balance of an organization (I5), in the caller's snapshot.
CREATE OR REPLACE FUNCTION microdollar_organization_balance(p_organization_id uuid) RETURNS bigint
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
declare
  v_balance bigint;
  v_has_exa boolean;
begin
  select o.microdollars_used + pending.usage_microdollars, pending.has_exa
  into v_balance, v_has_exa
  from organizations as o
  cross join lateral (
    select coalesce(sum(p.cost_microdollars) filter (where p.usage_date is not null), 0)
        as usage_microdollars,
      coalesce(bool_or(p.exa_month is not null), false) as has_exa
    from microdollar_usage_pending as p
    where (p.organization_id, p.xid) >= (o.id, o.pending_floor)
      and p.organization_id <= o.id
  ) as pending
  where o.id = p_organization_id;
  if v_has_exa then
    select b.microdollars_used into v_balance
    from organization_balances as b
    where b.organization_id = p_organization_id;
  end if;
  return v_balance;
end
$$;
--> statement-breakpoint
--> statement-breakpoint
CREATE OR REPLACE FUNCTION microdollar_record_usage(
  p_id uuid,
  p_kilo_user_id text,
  p_organization_id uuid,
  p_provider text,
  p_model text,
  p_requested_model text,
  p_inference_provider text,
  p_project_id text,
  p_cost bigint,
  p_input_tokens bigint,
  p_output_tokens bigint,
  p_cache_write_tokens bigint,
  p_cache_hit_tokens bigint,
  p_cache_discount bigint,
  p_has_error boolean,
  p_created_at timestamptz,
  p_metadata json,
  p_in_place boolean,
  OUT status text,
  OUT created_at text,
  OUT new_microdollars_used bigint,
  OUT appended boolean
)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
declare
  v_created_at timestamptz := coalesce(p_created_at, now());
  v_usage_date date := (v_created_at at time zone 'UTC')::date;
  v_payer tid;
  v_daily tid;
  v_existing microdollar_usage;
  v_metadata microdollar_usage_metadata;
begin
  insert into microdollar_usage (
    id, kilo_user_id, organization_id, provider, model, requested_model, inference_provider,
    project_id, cost, input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens,
    cache_discount, has_error, created_at)
  select p_id, u.id, p_organization_id, p_provider, p_model, p_requested_model,
    p_inference_provider, p_project_id, p_cost, p_input_tokens, p_output_tokens,
    p_cache_write_tokens, p_cache_hit_tokens, p_cache_discount, p_has_error, v_created_at
  from kilocode_users as u
  where u.id = p_kilo_user_id
    and (p_organization_id is null
      or exists (select from organizations as o where o.id = p_organization_id))
    and (p_created_at is null
      or p_created_at >= coalesce(
        (select s.archive_horizon from ledger_settings as s where s.id = 1), '-infinity'))
  on conflict (id) do nothing;

  if not found then
    select * into v_existing from microdollar_usage as m where m.id = p_id;
    if found then
      status := case when v_existing.kilo_user_id = p_kilo_user_id
          and v_existing.organization_id is not distinct from p_organization_id
          and v_existing.cost = p_cost
          and v_existing.input_tokens = p_input_tokens
          and v_existing.output_tokens = p_output_tokens
          and v_existing.cache_write_tokens = p_cache_write_tokens
          and v_existing.cache_hit_tokens = p_cache_hit_tokens
          and v_existing.provider is not distinct from p_provider
          and v_existing.model is not distinct from p_model
          and v_existing.requested_model is not distinct from p_requested_model
          and (p_created_at is null or v_existing.created_at = p_created_at)
        then 'duplicate' else 'idempotency_conflict' end;
      created_at := to_char(v_existing.created_at at time zone 'UTC',
        'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
      appended := false;
      if v_existing.organization_id is null then
        new_microdollars_used := microdollar_user_balance(v_existing.kilo_user_id);
      else
        new_microdollars_used := microdollar_organization_balance(v_existing.organization_id);
      end if;
      return;
    end if;
    status := case
      when not exists (select from kilocode_users as u where u.id = p_kilo_user_id)
        then 'unknown_user'
      when p_organization_id is not null
        and not exists (select from organizations as o where o.id = p_organization_id)
        then 'unknown_organization'
      else 'archived_period' end;
    return;
  end if;

  status := 'recorded';
  created_at := to_char(v_created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

  -- Personal data of a soft-deleted user is not stored again (I11).
  if p_metadata is not null then
    v_metadata := json_populate_record(null::microdollar_usage_metadata, p_metadata);
    v_metadata.id := p_id;
    v_metadata.kilo_user_id := p_kilo_user_id;
    v_metadata.created_at := v_created_at;
    insert into microdollar_usage_metadata
    select v_metadata.*
    from kilocode_users as u
    where u.id = p_kilo_user_id
      and u.deleted_at is null;
  end if;

  appended := false;
  if p_in_place and p_cost <> 0 then
    if p_organization_id is null then
      for v_attempt in 1..2 loop
        select u.ctid, d.ctid into v_payer, v_daily
        from kilocode_users as u
        cross join microdollar_usage_daily as d
        where u.id = p_kilo_user_id
          and (
            select true from microdollar_usage_pending as p
            where (p.kilo_user_id, p.xid) >= (p_kilo_user_id, u.pending_floor)
            and p.kilo_user_id <= p_kilo_user_id
            and p.organization_id is null
            limit 1) is null
          and d.kilo_user_id = p_kilo_user_id
          and d.organization_id is null
          and d.usage_date = v_usage_date
        for no key update of u, d skip locked;
        exit when found or not microdollar_open_daily(p_kilo_user_id, null, v_usage_date, 0);
      end loop;
    else
      for v_attempt in 1..2 loop
        select o.ctid, d.ctid into v_payer, v_daily
        from organizations as o
        cross join microdollar_usage_daily as d
        where o.id = p_organization_id
          and (
            select true from microdollar_usage_pending as p
            where (p.organization_id, p.xid) >= (p_organization_id, o.pending_floor)
            and p.organization_id <= p_organization_id
            limit 1) is null
          and d.kilo_user_id = p_kilo_user_id
          and d.organization_id = p_organization_id
          and d.usage_date = v_usage_date
        for no key update of o, d skip locked;
        exit when found
          or not microdollar_open_daily(p_kilo_user_id, p_organization_id, v_usage_date, 0);
      end loop;
    end if;

    -- The locked versions are the newest and cannot move: reach them by their place.
    if v_daily is not null then
      update microdollar_usage_daily as d
      set total_cost_microdollars = d.total_cost_microdollars + p_cost,
        updated_at = now()
      where d.ctid = v_daily;
      if not found then
        raise exception 'locked daily row moved' using errcode = 'internal_error';
      end if;
      if p_organization_id is null then
        update kilocode_users as u
        set microdollars_used = u.microdollars_used + p_cost
        where u.ctid = v_payer
        returning u.microdollars_used into new_microdollars_used;
      else
        update organizations as o
        set microdollars_used = o.microdollars_used + p_cost
        where o.ctid = v_payer
        returning o.microdollars_used into new_microdollars_used;
      end if;
      if not found then
        raise exception 'locked payer row moved' using errcode = 'internal_error';
      end if;
      return;
    end if;
  end if;

  if p_cost <> 0 then
    insert into microdollar_usage_pending
      (kilo_user_id, organization_id, usage_date, cost_microdollars)
    values (p_kilo_user_id, p_organization_id, v_usage_date, p_cost);
    appended := true;
  end if;
  if p_organization_id is null then
    new_microdollars_used := microdollar_user_balance(p_kilo_user_id);
  else
    new_microdollars_used := microdollar_organization_balance(p_organization_id);
  end if;
end
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION microdollar_record_exa_usage(
  p_id uuid,
  p_kilo_user_id text,
  p_organization_id uuid,
  p_cost bigint,
  p_path text,
  p_created_at timestamptz,
  p_free_allowance bigint,
  p_in_place boolean,
  OUT status text,
  OUT created_at text,
  OUT new_microdollars_used bigint,
  OUT appended boolean
)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
declare
  v_created_at timestamptz := coalesce(p_created_at, now());
  v_month date := date_trunc('month', v_created_at at time zone 'UTC')::date;
  v_existing exa_usage_log;
  v_month_id uuid;
  v_charged_before bigint;
  v_charged bigint;
begin
  appended := false;
  insert into exa_usage_log (id, kilo_user_id, organization_id, cost, path, created_at)
  select p_id, u.id, p_organization_id, p_cost, p_path, v_created_at
  from kilocode_users as u
  where u.id = p_kilo_user_id
    and (p_organization_id is null
      or exists (select from organizations as o where o.id = p_organization_id))
    and (p_created_at is null
      or p_created_at >= coalesce(
        (select s.archive_horizon from ledger_settings as s where s.id = 1), '-infinity'))
  on conflict (id) do nothing;

  if not found then
    select * into v_existing from exa_usage_log as x where x.id = p_id;
    if not found then
      status := case
        when not exists (select from kilocode_users as u where u.id = p_kilo_user_id)
          then 'unknown_user'
        when p_organization_id is not null
          and not exists (select from organizations as o where o.id = p_organization_id)
          then 'unknown_organization'
        else 'archived_period' end;
      return;
    end if;
    status := case when v_existing.kilo_user_id = p_kilo_user_id
        and v_existing.organization_id is not distinct from p_organization_id
        and v_existing.cost = p_cost
        and v_existing.path = p_path
        and (p_created_at is null or v_existing.created_at = p_created_at)
      then 'duplicate' else 'idempotency_conflict' end;
    v_created_at := v_existing.created_at;
  else
    status := 'recorded';
    if p_cost <> 0 and p_in_place then
      if p_organization_id is null then
        perform from kilocode_users as u
        where u.id = p_kilo_user_id
          and (
            select true from microdollar_usage_pending as p
            where (p.kilo_user_id, p.xid) >= (p_kilo_user_id, u.pending_floor)
            and p.kilo_user_id <= p_kilo_user_id
            and p.organization_id is null
            limit 1) is null
        for no key update skip locked;
      else
        perform from organizations as o
        where o.id = p_organization_id
          and (
            select true from microdollar_usage_pending as p
            where (p.organization_id, p.xid) >= (p_organization_id, o.pending_floor)
            and p.organization_id <= p_organization_id
            limit 1) is null
        for no key update skip locked;
      end if;
      if found then
        for v_attempt in 1..2 loop
          if p_organization_id is null then
            select e.id, e.total_charged_microdollars into v_month_id, v_charged_before
            from exa_monthly_usage as e
            where e.kilo_user_id = p_kilo_user_id
              and e.organization_id is null
              and e.month = v_month
            for no key update skip locked;
          else
            select e.id, e.total_charged_microdollars into v_month_id, v_charged_before
            from exa_monthly_usage as e
            where e.kilo_user_id = p_kilo_user_id
              and e.organization_id = p_organization_id
              and e.month = v_month
            for no key update skip locked;
          end if;
          exit when found or not microdollar_open_exa_month(
            p_kilo_user_id, p_organization_id, v_month, p_free_allowance);
        end loop;
      end if;
    end if;

    if v_month_id is not null then
      update exa_monthly_usage as e
      set total_cost_microdollars = e.total_cost_microdollars + p_cost,
        total_charged_microdollars = greatest(0,
          e.total_cost_microdollars + p_cost - e.free_allowance_microdollars),
        request_count = e.request_count + 1,
        updated_at = now()
      where e.id = v_month_id
      returning e.total_charged_microdollars into v_charged;
      if v_charged <> v_charged_before then
        if p_organization_id is null then
          update kilocode_users as u
          set microdollars_used = u.microdollars_used + v_charged - v_charged_before
          where u.id = p_kilo_user_id;
        else
          update organizations as o
          set microdollars_used = o.microdollars_used + v_charged - v_charged_before
          where o.id = p_organization_id;
        end if;
      end if;
    elsif p_cost <> 0 then
      insert into microdollar_usage_pending (kilo_user_id, organization_id, exa_month,
        cost_microdollars, request_count, free_allowance_microdollars)
      values (p_kilo_user_id, p_organization_id, v_month, p_cost, 1, p_free_allowance);
      appended := true;
    end if;
  end if;

  created_at := to_char(v_created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
  if p_organization_id is null then
    new_microdollars_used := microdollar_user_balance(p_kilo_user_id);
  else
    new_microdollars_used := microdollar_organization_balance(p_organization_id);
  end if;
end
$$;
