CREATE TABLE "gateway_instances" (
	"owner" uuid PRIMARY KEY NOT NULL,
	"beat" bigint DEFAULT 0 NOT NULL,
	"host" text,
	"pid" integer,
	"started_at" timestamp with time zone DEFAULT now() NOT NULL,
	"seen_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "gateway_intents" (
	"id" uuid PRIMARY KEY NOT NULL,
	"owner" uuid NOT NULL,
	"kilo_user_id" text NOT NULL,
	"organization_id" uuid,
	"api_key_id" text,
	"api_kind" text NOT NULL,
	"requested_model" text,
	"input_tokens_estimate" bigint NOT NULL,
	"max_tokens" bigint,
	"streamed" boolean NOT NULL,
	"created_at" timestamp with time zone NOT NULL
);
