ALTER TABLE "microdollar_usage_metadata" ADD COLUMN "reported_cost" bigint;--> statement-breakpoint
ALTER TABLE "microdollar_usage_metadata" ADD COLUMN "usage_details" jsonb;