CREATE TABLE "microdollar_shard_directory" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"bucket" integer,
	"payer_scope" text,
	"payer_id" text,
	"shard" text NOT NULL,
	"moving_to" text,
	"moved_from" text,
	"step" text,
	"progress" jsonb,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "uq_microdollar_shard_directory_bucket" UNIQUE("bucket"),
	CONSTRAINT "microdollar_shard_directory_key" CHECK ((bucket is null) = (payer_scope is not null and payer_id is not null)
        and (payer_scope is null) = (payer_id is null)),
	CONSTRAINT "microdollar_shard_directory_bucket" CHECK (bucket >= 0 and bucket < 1024),
	CONSTRAINT "microdollar_shard_directory_payer_scope" CHECK (payer_scope in ('user', 'organization')),
	CONSTRAINT "microdollar_shard_directory_step" CHECK (case
        when step in ('copying', 'fenced') then moving_to is not null
        when step in ('switched', 'cleaning') then moved_from is not null
        else step is null and moving_to is null and moved_from is null
      end)
);
--> statement-breakpoint
CREATE TABLE "microdollar_shards" (
	"name" text PRIMARY KEY NOT NULL,
	"is_placing" boolean NOT NULL,
	"joined_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "organizations" ADD COLUMN "is_elsewhere" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "ledger_settings" ADD COLUMN "installation_id" uuid;--> statement-breakpoint
ALTER TABLE "ledger_settings" ADD COLUMN "shard_name" text;--> statement-breakpoint
ALTER TABLE "kilocode_users" ADD COLUMN "is_elsewhere" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "uq_microdollar_shard_directory_payer" ON "microdollar_shard_directory" USING btree ("payer_scope","payer_id");--> statement-breakpoint
ALTER TABLE "ledger_settings" ADD CONSTRAINT "ledger_settings_shard" CHECK ((installation_id is null) = (shard_name is null));