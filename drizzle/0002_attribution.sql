ALTER TABLE "microdollar_usage" ADD COLUMN "api_key_id" uuid;--> statement-breakpoint
ALTER TABLE "microdollar_usage_metadata" ADD COLUMN "end_user" text;--> statement-breakpoint
ALTER TABLE "microdollar_usage_metadata" ADD COLUMN "tags" text[];