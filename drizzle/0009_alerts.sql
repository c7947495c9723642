CREATE TABLE "usage_alert_deliveries" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"event_id" uuid NOT NULL,
	"webhook_id" uuid NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_attempt_at" timestamp with time zone DEFAULT now() NOT NULL,
	"leased_until" timestamp with time zone,
	"last_attempt_at" timestamp with time zone,
	"last_status" integer,
	"last_error" text,
	"delivered_at" timestamp with time zone,
	"dead_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "uq_usage_alert_deliveries" UNIQUE("event_id","webhook_id")
);
--> statement-breakpoint
CREATE TABLE "usage_alert_events" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"alert_id" uuid NOT NULL,
	"budget_id" uuid,
	"window_start" timestamp with time zone NOT NULL,
	"window_end" timestamp with time zone NOT NULL,
	"threshold" bigint NOT NULL,
	"limit_microdollars" numeric NOT NULL,
	"spent_microdollars" numeric NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "uq_usage_alert_events" UNIQUE("alert_id","window_start","threshold")
);
--> statement-breakpoint
CREATE TABLE "usage_alert_hours" (
	"alert_id" uuid NOT NULL,
	"hour_start" timestamp with time zone NOT NULL,
	"usual_microdollars" numeric NOT NULL,
	CONSTRAINT "usage_alert_hours_alert_id_hour_start_pk" PRIMARY KEY("alert_id","hour_start")
);
--> statement-breakpoint
CREATE TABLE "usage_alert_webhooks" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"payer_scope" text,
	"payer_id" text,
	"url" text NOT NULL,
	"secret" text NOT NULL,
	"previous_secret" text,
	"previous_secret_until" timestamp with time zone,
	"failing_since" timestamp with time zone,
	"disabled_at" timestamp with time zone,
	"disabled_reason" text,
	"created_by" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"removed_at" timestamp with time zone,
	CONSTRAINT "usage_alert_webhooks_payer" CHECK ((payer_scope is null) = (payer_id is null))
);
--> statement-breakpoint
CREATE TABLE "usage_alerts" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"kind" text NOT NULL,
	"payer_scope" text NOT NULL,
	"payer_id" text NOT NULL,
	"budget_id" uuid,
	"thresholds" bigint[] NOT NULL,
	"floor_microdollars" bigint DEFAULT 0 NOT NULL,
	"set_at" timestamp with time zone DEFAULT now() NOT NULL,
	"armed_at" timestamp with time zone DEFAULT now() NOT NULL,
	"created_by" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"removed_at" timestamp with time zone,
	CONSTRAINT "usage_alerts_kind" CHECK (kind in ('budget', 'balance', 'spend')),
	CONSTRAINT "usage_alerts_payer_scope" CHECK (payer_scope in ('user', 'organization')),
	CONSTRAINT "usage_alerts_budget" CHECK ((kind = 'budget') = (budget_id is not null))
);
--> statement-breakpoint
CREATE INDEX "idx_usage_alert_deliveries_pending" ON "usage_alert_deliveries" USING btree ("webhook_id","next_attempt_at") WHERE "usage_alert_deliveries"."delivered_at" is null and "usage_alert_deliveries"."dead_at" is null;--> statement-breakpoint
CREATE INDEX "idx_usage_alert_deliveries_dead" ON "usage_alert_deliveries" USING btree ("dead_at") WHERE "usage_alert_deliveries"."dead_at" is not null;--> statement-breakpoint
CREATE INDEX "idx_usage_alert_events_created_at" ON "usage_alert_events" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "idx_usage_alert_webhooks_payer" ON "usage_alert_webhooks" USING btree ("payer_scope","payer_id") WHERE "usage_alert_webhooks"."removed_at" is null;--> statement-breakpoint
CREATE UNIQUE INDEX "uq_usage_alerts_in_force" ON "usage_alerts" USING btree ("payer_scope","payer_id","kind",coalesce(budget_id::text, '')) WHERE "usage_alerts"."removed_at" is null;