-- Custom migration: triggers, which drizzle-kit cannot express.
-- A row also comes to a key by an update of its key columns, and its index entry makes an insert
-- of the same key wait just as an uncommitted insert does (I4). So whoever moves a counter row or
-- renames a lookup value holds the new key's advisory lock too, until commit. The ledger itself
-- never updates these columns: the triggers do not fire for its writes.
CREATE TRIGGER guard_move BEFORE UPDATE OF kilo_user_id, organization_id, usage_date
ON microdollar_usage_daily FOR EACH ROW
EXECUTE FUNCTION microdollar_guard_daily_insert();
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
      'create trigger guard_move before update of %1$I on %1$I for each row
       execute function microdollar_guard_lookup_insert()', v_lookup);
  end loop;
end
$$;
