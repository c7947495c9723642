CREATE TABLE "gateway_responses" (
	"usage_id" uuid PRIMARY KEY NOT NULL,
	"response_id" text NOT NULL,
	"upstream" text NOT NULL,
	"kilo_user_id" text NOT NULL,
	"organization_id" uuid,
	"api_key_id" text,
	"api_kind" text NOT NULL,
	"requested_model" text,
	"input_tokens_estimate" bigint NOT NULL,
	"max_tokens" bigint,
	"streamed" boolean NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"details" jsonb NOT NULL,
	"looks" integer DEFAULT 0 NOT NULL,
	"look_at" timestamp with time zone DEFAULT now() NOT NULL,
	"settled_at" timestamp with time zone
);
--> statement-breakpoint
CREATE INDEX "idx_gateway_responses_response_id" ON "gateway_responses" USING btree ("response_id");--> statement-breakpoint
CREATE INDEX "idx_gateway_responses_look_at" ON "gateway_responses" USING btree ("look_at") WHERE "gateway_responses"."settled_at" is null;