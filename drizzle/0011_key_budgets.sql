CREATE TABLE "gateway_response_items" (
	"item_id" text NOT NULL,
	"usage_id" uuid NOT NULL,
	"kilo_user_id" text NOT NULL,
	CONSTRAINT "gateway_response_items_item_id_usage_id_pk" PRIMARY KEY("item_id","usage_id")
);
--> statement-breakpoint
ALTER TABLE "usage_holds" ADD COLUMN "spent_microdollars" numeric DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE INDEX "idx_gateway_response_items_usage_id" ON "gateway_response_items" USING btree ("usage_id");--> statement-breakpoint
CREATE INDEX "idx_budgets_key" ON "budgets" USING btree ("api_key_id") WHERE "budgets"."api_key_id" is not null and "budgets"."removed_at" is null;--> statement-breakpoint
ALTER TABLE gateway_response_items SET (vacuum_truncate = off);
