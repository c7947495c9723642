-- Custom migration: storage parameters, functions and triggers, which drizzle-kit cannot express.
-- The algorithm they serve is told in src/counter/README.md; invariants are in docs/invariants.md.

-- Counter rows are updated in place, often: leave room for HOT updates.
ALTER TABLE kilocode_users SET (fillfactor = 70);
--> statement-breakpoint
ALTER TABLE organizations SET (fillfactor = 50);
--> statement-breakpoint
ALTER TABLE microdollar_usage_daily SET (fillfactor = 80);
--> statement-breakpoint
ALTER TABLE exa_monthly_usage SET (fillfactor = 80);
--> statement-breakpoint
-- Pending rows live for milliseconds: vacuum by number, not by share of a table that is empty.
ALTER TABLE microdollar_usage_pending SET (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 100000
);
--> statement-breakpoint
INSERT INTO ledger_settings (id) VALUES (1) ON CONFLICT DO NOTHING;
--> statement-breakpoint

-- Advisory lock of a counter key or lookup value: 1024 buckets a period, which bounds the shared
-- lock table; a collision only makes a writer append. Lookup values have no period.
CREATE FUNCTION microdollar_key_bucket(p_period date, p_key text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  select (coalesce(p_period - date '2000-01-01', 0) * 1024
    + (hashtextextended(p_key, 0) & 1023))::integer
$$;
--> statement-breakpoint

-- Whoever inserts a counter row or a lookup value, the ledger or a foreign program, holds its
-- key's advisory lock (shared) until commit. So a writer that gets the exclusive lock and then,
-- with a fresh snapshot, sees no row, knows that nobody else has one in flight: its own insert
-- cannot wait (I4). Shared locks of foreign programs wait only for ledger statements, which
-- are short, take the exclusive lock only by trying, and wait for nothing once they have it.
-- The try comes first because, as an expression, it costs no query of its own.
CREATE FUNCTION microdollar_guard_daily_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
declare
  v_bucket integer := microdollar_key_bucket(new.usage_date,
    'microdollar_usage_daily|' || new.kilo_user_id || '|' || coalesce(new.organization_id::text, ''));
begin
  if not pg_try_advisory_xact_lock_shared(1297369170, v_bucket) then
    perform pg_advisory_xact_lock_shared(1297369170, v_bucket);
  end if;
  return new;
end
$$;
--> statement-breakpoint
CREATE FUNCTION microdollar_guard_exa_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
declare
  v_bucket integer := microdollar_key_bucket(new.month,
    'exa_monthly_usage|' || new.kilo_user_id || '|' || coalesce(new.organization_id::text, ''));
begin
  if not pg_try_advisory_xact_lock_shared(1297369170, v_bucket) then
    perform pg_advisory_xact_lock_shared(1297369170, v_bucket);
  end if;
  return new;
end
$$;
--> statement-breakpoint
CREATE FUNCTION microdollar_guard_lookup_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
begin
  perform pg_advisory_xact_lock_shared(1297369170, microdollar_key_bucket(null,
    tg_table_name || '|' || (to_jsonb(new) ->> tg_table_name)));
  return new;
end
$$;
--> statement-breakpoint
CREATE TRIGGER guard_insert BEFORE INSERT ON microdollar_usage_daily FOR EACH ROW
EXECUTE FUNCTION microdollar_guard_daily_insert();
--> statement-breakpoint
CREATE TRIGGER guard_insert BEFORE INSERT ON exa_monthly_usage FOR EACH ROW
EXECUTE FUNCTION microdollar_guard_exa_insert();
--> statement-breakpoint
DO $$
declare
  v_lookup text;
begin
  foreach v_lookup in array array[
    'http_user_agent', 'http_ip', 'vercel_ip_city', 'vercel_ip_country', 'ja4_digest',
    'system_prompt_prefix', 'finish_reason', 'editor_name', 'api_kind', 'feature', 'mode',
    'auto_model'
  ] loop
    execute format(
      'create trigger guard_insert before insert on %I for each row
       execute function microdollar_guard_lookup_insert()', v_lookup);
  end loop;
end
$$;
--> statement-breakpoint

-- Creates the daily row of a key with a first amount (microdollars). False, and nothing done,
-- when another transaction may be creating it or it exists already. Never waits.
CREATE FUNCTION microdollar_open_daily(
  p_kilo_user_id text, p_organization_id uuid, p_usage_date date, p_cost bigint
) RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off AS $$
begin
  if not pg_try_advisory_xact_lock(1297369170, microdollar_key_bucket(p_usage_date,
    'microdollar_usage_daily|' || p_kilo_user_id || '|' || coalesce(p_organization_id::text, '')))
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
  insert into microdollar_usage_daily
    (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
  values (p_kilo_user_id, p_organization_id, p_usage_date, p_cost);
  return true;
end
$$;
--> statement-breakpoint

-- The same for Exa's monthly row, which starts at zero; fixes the month's free allowance.
CREATE FUNCTION microdollar_open_exa_month(
  p_kilo_user_id text, p_organization_id uuid, p_month date, p_free_allowance bigint
) RETURNS boolean
LANGUAGE plpgsql SET enable_seqscan = off AS $$
begin
  if not pg_try_advisory_xact_lock(1297369170, microdollar_key_bucket(p_month,
    'exa_monthly_usage|' || p_kilo_user_id || '|' || coalesce(p_organization_id::text, '')))
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
  values (p_kilo_user_id, p_organization_id, p_month, p_free_allowance);
  return true;
end
$$;
--> statement-breakpoint

-- Id of a lookup value, created if need be; null when another transaction may be creating it.
-- Never waits. Call it in a statement of its own, so that the id is committed before it is cached.
CREATE FUNCTION microdollar_lookup_id(p_lookup text, p_value text) RETURNS integer
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
CREATE FUNCTION microdollar_find_lookup_id(p_lookup text, p_value text) RETURNS integer
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
declare
  v_id integer;
begin
  execute format('select %1$I from %2$I where %2$I = $1', p_lookup || '_id', p_lookup)
    into v_id using p_value;
  return v_id;
end
$$;
--> statement-breakpoint

-- Balance of a user, personal scope (I5), in the caller's snapshot. Equals the view
-- kilocode_user_balances; skips what was drained (pending_floor), so stays fast while an old
-- snapshot keeps dead pending rows.
CREATE FUNCTION microdollar_user_balance(p_kilo_user_id text) RETURNS bigint
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
    where p.kilo_user_id = u.id
      and p.organization_id is null
      and p.xid >= u.pending_floor
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
CREATE FUNCTION microdollar_organization_balance(p_organization_id uuid) RETURNS bigint
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
    where p.organization_id = o.id
      and p.xid >= o.pending_floor
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

-- Records one usage event: the usage row, its metadata, its rollup and balance effect (I1).
-- In place when the payer's row and the daily row can be locked at once and nothing of the payer
-- is pending; else one pending row. Every statement in here has a snapshot of its own
-- (READ COMMITTED); the caller's transaction makes them one.
--
-- Order matters: the usage row comes first, because waiting for an in-flight twin of the same id
-- is the only wait there is (I3, I4), and nothing may be locked meanwhile.
--
-- p_in_place false: append only. For transactions that the caller owns (their length is unknown)
-- and for the always-append mode.
CREATE FUNCTION microdollar_record_usage(
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
          and not exists (
            select from microdollar_usage_pending as p
            where p.kilo_user_id = p_kilo_user_id
              and p.organization_id is null
              and p.xid >= u.pending_floor)
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
          and not exists (
            select from microdollar_usage_pending as p
            where p.organization_id = p_organization_id
              and p.xid >= o.pending_floor)
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

-- Records one Exa request: log row, monthly counter, and the part charged to the payer's balance,
-- which is greatest(0, exact total - free allowance). Rules as for microdollar_record_usage.
CREATE FUNCTION microdollar_record_exa_usage(
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
          and not exists (
            select from microdollar_usage_pending as p
            where p.kilo_user_id = p_kilo_user_id
              and p.organization_id is null
              and p.xid >= u.pending_floor)
        for no key update skip locked;
      else
        perform from organizations as o
        where o.id = p_organization_id
          and not exists (
            select from microdollar_usage_pending as p
            where p.organization_id = p_organization_id
              and p.xid >= o.pending_floor)
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
