DROP INDEX "idx_microdollar_usage_metadata_adjusts_usage_id";--> statement-breakpoint
ALTER TABLE "microdollar_usage_metadata" ADD COLUMN "reported_cost" bigint;--> statement-breakpoint
ALTER TABLE "microdollar_usage_metadata" ADD COLUMN "usage_details" jsonb;--> statement-breakpoint
ALTER TABLE "microdollar_usage_metadata" ADD COLUMN "correction_number" integer;--> statement-breakpoint
CREATE UNIQUE INDEX "uq_microdollar_usage_metadata_correction" ON "microdollar_usage_metadata" USING btree ("adjusts_usage_id","correction_number") WHERE "microdollar_usage_metadata"."adjusts_usage_id" is not null;