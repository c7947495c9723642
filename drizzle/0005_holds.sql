CREATE TABLE "budget_windows" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "budget_windows_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"budget_id" uuid NOT NULL,
	"window_start" timestamp with time zone NOT NULL,
	"window_end" timestamp with time zone NOT NULL,
	"limit_microdollars" bigint NOT NULL,
	"spent_microdollars" numeric NOT NULL,
	"carry_microdollars" numeric NOT NULL,
	CONSTRAINT "uq_budget_windows" UNIQUE("budget_id","window_start")
);
--> statement-breakpoint
CREATE TABLE "budgets" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"scope" text NOT NULL,
	"payer_scope" text NOT NULL,
	"payer_id" text NOT NULL,
	"kilo_user_id" text,
	"api_key_id" uuid,
	"project_id" text,
	"period" text NOT NULL,
	"time_zone" text DEFAULT 'UTC' NOT NULL,
	"limit_microdollars" bigint NOT NULL,
	"is_hard" boolean DEFAULT true NOT NULL,
	"is_balance" boolean DEFAULT false NOT NULL,
	"raise_microdollars" bigint DEFAULT 0 NOT NULL,
	"raise_until" timestamp with time zone,
	"created_by" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	"removed_at" timestamp with time zone,
	CONSTRAINT "budgets_scope" CHECK (scope in ('user', 'organization', 'member', 'key', 'project')),
	CONSTRAINT "budgets_payer_scope" CHECK (payer_scope in ('user', 'organization')),
	CONSTRAINT "budgets_period" CHECK (period in ('day', 'week', 'month', 'total')),
	CONSTRAINT "budgets_limit" CHECK (limit_microdollars >= 0 and raise_microdollars >= 0)
);
--> statement-breakpoint
CREATE TABLE "headroom" (
	"window_id" bigint NOT NULL,
	"slot" integer NOT NULL,
	"remaining_microdollars" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "headroom_window_id_slot_pk" PRIMARY KEY("window_id","slot"),
	CONSTRAINT "headroom_remaining" CHECK (remaining_microdollars >= 0)
);
--> statement-breakpoint
CREATE TABLE "usage_holds" (
	"id" uuid PRIMARY KEY NOT NULL,
	"payer_scope" text NOT NULL,
	"payer_id" text NOT NULL,
	"kilo_user_id" text NOT NULL,
	"api_key_id" uuid,
	"project_id" text,
	"amount_microdollars" bigint NOT NULL,
	"window_ids" bigint[] NOT NULL,
	"owner" uuid,
	"expires_at" timestamp with time zone NOT NULL,
	"released_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "usage_holds_amount" CHECK (amount_microdollars >= 0)
);
--> statement-breakpoint
CREATE UNIQUE INDEX "uq_budgets_in_force" ON "budgets" USING btree ("payer_scope","payer_id","scope","period","is_balance",coalesce(kilo_user_id, ''),coalesce(api_key_id::text, ''),coalesce(project_id, '')) WHERE "budgets"."removed_at" is null;--> statement-breakpoint
CREATE INDEX "idx_usage_holds_payer" ON "usage_holds" USING btree ("payer_scope","payer_id") WHERE "usage_holds"."window_ids" <> '{}';--> statement-breakpoint
-- Rows that are updated all the time, in place; vacuum's truncation would lock out whoever reserves.
ALTER TABLE "headroom" SET (fillfactor = 30, vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE "budget_windows" SET (fillfactor = 70, vacuum_truncate = off);
--> statement-breakpoint
ALTER TABLE "usage_holds" SET (vacuum_truncate = off);
