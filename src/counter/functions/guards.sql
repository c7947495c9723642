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
