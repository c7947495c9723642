DROP INDEX "uq_budgets_in_force";--> statement-breakpoint
ALTER TABLE "budgets" ADD COLUMN "set_by" text DEFAULT 'admin' NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "uq_budgets_in_force" ON "budgets" USING btree ("payer_scope","payer_id","scope","period","is_balance",coalesce(kilo_user_id, ''),coalesce(api_key_id::text, ''),coalesce(project_id, ''),"set_by") WHERE "budgets"."removed_at" is null;--> statement-breakpoint
ALTER TABLE "budgets" ADD CONSTRAINT "budgets_set_by" CHECK (set_by in ('admin', 'owner', 'user'));--> statement-breakpoint
-- What owners of organizations had set is theirs to change.
update budgets as b
set set_by = 'owner'
where b.payer_scope = 'organization'
  and not b.is_balance
  and exists (
    select
    from organization_memberships as m
    where m.organization_id::text = b.payer_id
      and m.kilo_user_id = b.created_by
      and m.role = 'owner'
  );
