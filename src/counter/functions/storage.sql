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
