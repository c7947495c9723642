-- Written by `npm run functions` from src/counter/functions; edit those files.
-- Storage parameters, which drizzle-kit cannot express.
-- Counter rows are updated in place, often: leave room for HOT updates.
ALTER TABLE kilocode_users SET (fillfactor = 70);
--> statement-breakpoint
ALTER TABLE organizations SET (fillfactor = 50);
--> statement-breakpoint
ALTER TABLE microdollar_usage_daily SET (fillfactor = 80);
--> statement-breakpoint
ALTER TABLE exa_monthly_usage SET (fillfactor = 80);
--> statement-breakpoint
-- Vacuum takes an exclusive lock to give empty pages back, and writers would wait for it (I4).
ALTER TABLE microdollar_usage SET (vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE microdollar_usage_metadata SET (vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE microdollar_usage_daily SET (vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE exa_usage_log SET (vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE exa_monthly_usage SET (vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE kilocode_users SET (vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE organizations SET (vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE gateway_intents SET (vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE gateway_responses SET (vacuum_truncate = off);
--> statement-breakpoint
-- How many unsettled rows a payer has, for the planner, by ANALYZE: of the partial index on the
-- same expression (schema/unsettled.ts) it reads no statistics, and holds every payer for one of 200.
CREATE STATISTICS microdollar_usage_payer ON (
  case when organization_id is null then hashtextextended(kilo_user_id, 0)
    else uuid_hash_extended(organization_id, 0) end
) FROM microdollar_usage;
--> statement-breakpoint
CREATE STATISTICS exa_usage_log_payer ON (
  case when organization_id is null then hashtextextended(kilo_user_id, 0)
    else uuid_hash_extended(organization_id, 0) end
) FROM exa_usage_log;
--> statement-breakpoint
-- The settings' one row. Where the ledger is installed into a database without usage, every day is
-- right by construction, and reads start in `rollup`.
INSERT INTO ledger_settings (id, installed_empty)
SELECT 1, NOT EXISTS (SELECT FROM microdollar_usage)
ON CONFLICT DO NOTHING;
--> statement-breakpoint

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
--> statement-breakpoint

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
--> statement-breakpoint

-- Advisory lock of a counter key or lookup value. The shared lock table is finite, so there are 256
-- buckets, 16 for each of 16 classes of periods: whoever inserts many rows holds at most those. Two
-- keys of one bucket make a writer leave a row unsettled for a moment, nothing else.
CREATE OR REPLACE FUNCTION microdollar_key_bucket(p_period date, p_key text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  select ((case when isfinite(p_period) then p_period - date '2000-01-01' else 0 end & 15) * 16
    + (hashtextextended(p_key, 0) & 15))::integer
$$;
--> statement-breakpoint

-- Whoever inserts a counter row or a lookup value, or moves one to another key, the ledger or a
-- foreign program, holds the key's advisory lock (shared) until commit. So a writer that gets
-- the exclusive lock and then, with a fresh snapshot, sees no row, knows that nobody else has one in
-- flight: its own insert cannot wait (I4, R8). Shared locks of foreign programs wait only for ledger
-- statements, which are short, take the exclusive lock only by trying, and wait for nothing
-- once they have it. The try comes first because, as an expression, it costs no query of its own.
--
-- Their class has the oid of the ledger's settings: ledgers in schemas of one database do not meet, and
-- a transaction has at most as many locks as there are buckets. Names are written with their schema
-- (`migrate` puts the ledger's in place of `public`), for a foreign program has whatever search path it
-- has.
CREATE OR REPLACE FUNCTION microdollar_guard_daily_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
declare
  v_class constant integer := 1297369170 # 'public.ledger_settings'::regclass::integer;
  v_bucket integer := public.microdollar_key_bucket(new.usage_date,
    'microdollar_usage_daily|' || new.kilo_user_id || '|' || coalesce(new.organization_id::text, ''));
begin
  if not pg_try_advisory_xact_lock_shared(v_class, v_bucket) then
    perform pg_advisory_xact_lock_shared(v_class, v_bucket);
  end if;
  return new;
end
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION microdollar_guard_exa_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
declare
  v_class constant integer := 1297369170 # 'public.ledger_settings'::regclass::integer;
  v_bucket integer := public.microdollar_key_bucket(new.month,
    'exa_monthly_usage|' || new.kilo_user_id || '|' || coalesce(new.organization_id::text, ''));
begin
  if not pg_try_advisory_xact_lock_shared(v_class, v_bucket) then
    perform pg_advisory_xact_lock_shared(v_class, v_bucket);
  end if;
  return new;
end
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION microdollar_guard_lookup_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
begin
  perform pg_advisory_xact_lock_shared(1297369170 # 'public.ledger_settings'::regclass::integer,
    public.microdollar_key_bucket(null, tg_table_name || '|' || (to_jsonb(new) ->> tg_table_name)));
  return new;
end
$$;
--> statement-breakpoint
CREATE TRIGGER guard_insert BEFORE INSERT ON microdollar_usage_daily FOR EACH ROW
EXECUTE FUNCTION microdollar_guard_daily_insert();
--> statement-breakpoint
CREATE TRIGGER guard_move BEFORE UPDATE OF kilo_user_id, organization_id, usage_date
ON microdollar_usage_daily FOR EACH ROW
EXECUTE FUNCTION microdollar_guard_daily_insert();
--> statement-breakpoint
CREATE TRIGGER guard_insert BEFORE INSERT ON exa_monthly_usage FOR EACH ROW
EXECUTE FUNCTION microdollar_guard_exa_insert();
--> statement-breakpoint
CREATE TRIGGER guard_move BEFORE UPDATE OF kilo_user_id, organization_id, month
ON exa_monthly_usage FOR EACH ROW
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
    execute format(
      'create trigger guard_move before update of %1$I on %1$I for each row
       execute function microdollar_guard_lookup_insert()', v_lookup);
  end loop;
end
$$;
--> statement-breakpoint

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
--> statement-breakpoint

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
--> statement-breakpoint

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
--> statement-breakpoint

-- Usage that was written before its payer existed is unsettled from the moment the payer does, and
-- may lie below `settled_everywhere_below`: a sweep looks at payers, so none saw it. Hence the
-- low-water mark goes back to the lowest such row. Whoever sees the payer sees that too: they commit
-- together.
--
-- The races, for a row r of position p, whose payer transaction T creates:
--   r open, or written later   p is no less than any note: a sweep notes what had ended
--   T ended before its page    the sweep sees the payer: it settles r, or stays below it
--   T later, or open then      the sweep misses the payer. It notes what had ended before a reading
--                              that nothing in progress outlived until its pages
--                              (src/counter/sweep.ts). T did, so T got its id after the reading, and
--                              its trigger sees r, if r had ended by then. Where the trigger comes
--     before the note          the settings are locked, or their `updated_at` is another, even
--                              where p is above the mark: the sweep notes nothing
--     after it                 the update starts from the newest mark
-- Rows of T itself, and of younger transactions, are above all that a sweep which misses T may note.
-- A trigger must see what was committed before it, so T must be READ COMMITTED.
--
-- A statement pays two descents of an index per new payer. Only who creates payers of earlier
-- usage updates the settings, and waits for another who does until that one has ended.
CREATE OR REPLACE FUNCTION microdollar_note_new_payers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off AS $$
declare
  v_lowest bigint;
begin
  if tg_table_name = 'organizations' then
    select min(m.position) into v_lowest
    from new_payers as u
    cross join lateral (
      (select m.position
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
          else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
      order by m.position
      limit 1)
      union all
      (select m.position
      from exa_usage_log as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
          else uuid_hash_extended(m.organization_id, 0) end = uuid_hash_extended(u.id, 0)
        and m.organization_id is not distinct from u.id
        and m.position is not null
      order by m.position
      limit 1)
    ) as m;
  else
    select min(m.position) into v_lowest
    from new_payers as u
    cross join lateral (
      (select m.position
      from microdollar_usage as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
          else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
        and m.organization_id is null
        and m.position is not null
      order by m.position
      limit 1)
      union all
      (select m.position
      from exa_usage_log as m
      where case when m.organization_id is null then hashtextextended(m.kilo_user_id, 0)
          else uuid_hash_extended(m.organization_id, 0) end = hashtextextended(u.id, 0)
        and m.kilo_user_id is not distinct from u.id
        and m.organization_id is null
        and m.position is not null
      order by m.position
      limit 1)
    ) as m;
  end if;
  if v_lowest is not null then
    update ledger_settings as s
    set settled_everywhere_below = least(s.settled_everywhere_below, v_lowest),
      updated_at = clock_timestamp()
    where s.id = 1
      and v_lowest < greatest(s.settled_everywhere_below, (s.generation << 44) + txid_current());
  end if;
  return null;
end
$$;
--> statement-breakpoint
CREATE TRIGGER note_new_payers AFTER INSERT ON kilocode_users
REFERENCING NEW TABLE AS new_payers FOR EACH STATEMENT
EXECUTE FUNCTION microdollar_note_new_payers();
--> statement-breakpoint
CREATE TRIGGER note_new_payers AFTER INSERT ON organizations
REFERENCING NEW TABLE AS new_payers FOR EACH STATEMENT
EXECUTE FUNCTION microdollar_note_new_payers();
