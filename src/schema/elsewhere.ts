/**
 * Whether a row's payer has its money and usage on another shard (src/shards): then the row is there too, and
 * what is done to this one is lost. Null where the payer is nobody. Look-ups by key, whatever the plan.
 */
export const isPayerElsewhere = (row: string): string => `case ${row}.payer_scope
      when 'user' then (select u.is_elsewhere from kilocode_users as u where u.id = ${row}.payer_id)
      when 'organization' then (
        select o.is_elsewhere
        from organizations as o
        where o.id = (case ${row}.payer_scope when 'organization' then ${row}.payer_id end)::uuid)
    end`;

/**
 * Whether this shard takes new payers of a bucket, an SQL expression: not of one that has left it, or is
 * leaving. Null is no bucket: of a ledger that is no shard.
 */
export const takesBucket = (bucket: string): string => `not exists (
      select
      from microdollar_shard_directory as d
      cross join ledger_settings as s
      where d.bucket = ${bucket}
        and (d.shard is distinct from s.shard_name or d.step = 'fenced'))`;

/** The same of who pays by `organization`, else by `user`; both SQL expressions. */
export const isElsewhereSql = (user: string, organization: string): string => `case
      when ${organization} is null
        then (select u.is_elsewhere from kilocode_users as u where u.id = ${user})
      else (select o.is_elsewhere from organizations as o where o.id = ${organization})
    end`;
