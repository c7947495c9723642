CREATE TABLE "credit_expiries" (
	"grant_id" uuid PRIMARY KEY NOT NULL,
	"payer_scope" text NOT NULL,
	"payer_id" text NOT NULL,
	"expires_at" timestamp with time zone NOT NULL,
	"look_at" timestamp with time zone NOT NULL,
	"left_microdollars" bigint,
	"late_microdollars" bigint DEFAULT 0 NOT NULL,
	"late_before_microdollars" numeric DEFAULT 0 NOT NULL,
	"counted_below" bigint,
	"counted_except" bigint[] DEFAULT '{}' NOT NULL,
	"closed_at" timestamp with time zone,
	CONSTRAINT "credit_expiries_late" CHECK (late_microdollars between 0 and coalesce(left_microdollars, 0))
);
--> statement-breakpoint
ALTER TABLE "credit_transactions" ADD COLUMN "kind" text DEFAULT 'credit' NOT NULL;--> statement-breakpoint
ALTER TABLE "credit_transactions" ADD COLUMN "expires_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "credit_transactions" ADD COLUMN "priority" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "credit_transactions" ADD COLUMN "grant_id" uuid;--> statement-breakpoint
ALTER TABLE "credit_transactions" ADD COLUMN "sequence" bigint NOT NULL GENERATED ALWAYS AS IDENTITY (sequence name "credit_transactions_sequence_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1);--> statement-breakpoint
ALTER TABLE "credit_transactions" ADD COLUMN "used_microdollars" numeric;--> statement-breakpoint
CREATE INDEX "idx_credit_expiries_payer" ON "credit_expiries" USING btree ("payer_scope","payer_id");--> statement-breakpoint
CREATE INDEX "idx_credit_expiries_look_at" ON "credit_expiries" USING btree ("look_at") WHERE "credit_expiries"."closed_at" is null;--> statement-breakpoint
CREATE UNIQUE INDEX "uq_credit_transactions_expiry" ON "credit_transactions" USING btree ("grant_id") WHERE "credit_transactions"."kind" = 'expiry';--> statement-breakpoint
ALTER TABLE "credit_transactions" ADD CONSTRAINT "credit_transactions_kind" CHECK (kind in ('credit', 'expiry', 'expiry_correction')
        and (kind = 'credit') = (grant_id is null));--> statement-breakpoint
ALTER TABLE "credit_transactions" ADD CONSTRAINT "credit_transactions_expires_at" CHECK (expires_at is null or (kind = 'credit' and amount_microdollars > 0));