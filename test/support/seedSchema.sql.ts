import { LOOKUP_NAMES } from '../../src/schema/lookupNames.js';

/**
 * A database as the seed's program has it, before the ledger: its own tables with text user ids
 * and timestamptz instants, indexes under names of its own, serial lookup ids behind unique
 * indexes, columns that the ledger does not know, foreign keys, and a rollup without archive.
 */
const lookupTable = (name: string) => `
create table ${name} (
  ${name}_id serial primary key,
  ${name} text not null
);
create unique index "UQ_${name}" on ${name} (${name});`;

const LOOKUP_COLUMNS = LOOKUP_NAMES.map(
  (name) => `${name}_id integer references ${name} (${name}_id)`,
).join(',\n  ');

export const SEED_SCHEMA = `
create table kilocode_users (
  id text primary key,
  google_user_email text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  microdollars_used bigint not null default '0',
  total_microdollars_acquired bigint not null default '0',
  kilo_pass_threshold bigint,
  is_admin boolean not null default false,
  blocked_reason text constraint blocked_reason_not_empty check (length(blocked_reason) > 0)
);
create table organizations (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  microdollars_used bigint not null default 0,
  plan text not null default 'teams'
);
create table organization_memberships (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null,
  kilo_user_id text not null,
  role text not null,
  joined_at timestamptz default now(),
  constraint "UQ_organization_memberships_org_user" unique (organization_id, kilo_user_id)
);
${LOOKUP_NAMES.map(lookupTable).join('\n')}
create table microdollar_usage (
  id uuid primary key default gen_random_uuid(),
  kilo_user_id text not null constraint usage_user references kilocode_users (id),
  cost bigint not null,
  input_tokens bigint not null,
  output_tokens bigint not null,
  cache_write_tokens bigint not null,
  cache_hit_tokens bigint not null,
  created_at timestamptz default now(),
  provider text,
  model varchar,
  requested_model text,
  cache_discount bigint,
  has_error boolean not null default false,
  abuse_classification smallint not null default 0,
  organization_id uuid,
  inference_provider text
);
create index idx_created_at on microdollar_usage (created_at);
create index idx_abuse_classification on microdollar_usage (abuse_classification);
create index idx_kilo_user_id_created_at2 on microdollar_usage (kilo_user_id, created_at);
create index idx_microdollar_usage_organization_id on microdollar_usage (organization_id)
  where organization_id is not null;
create table microdollar_usage_metadata (
  id uuid primary key,
  created_at timestamptz,
  message_id text not null,
  upstream_id text,
  session_id text,
  machine_id text,
  user_prompt_prefix text,
  system_prompt_length integer,
  max_tokens bigint,
  status_code smallint,
  latency real,
  moderation_latency real,
  generation_time real,
  has_middle_out_transform boolean,
  has_tools boolean,
  is_byok boolean,
  streamed boolean,
  cancelled boolean,
  vercel_ip_latitude real,
  vercel_ip_longitude real,
  abuse_delay integer not null default 0,
  ${LOOKUP_COLUMNS}
);
create index idx_microdollar_usage_metadata_created_at on microdollar_usage_metadata (created_at);
create table microdollar_usage_daily (
  id uuid primary key default gen_random_uuid(),
  kilo_user_id text not null,
  organization_id uuid,
  usage_date date not null,
  total_cost_microdollars bigint not null default 0,
  updated_at timestamptz not null default now()
);
create unique index idx_microdollar_usage_daily_personal
  on microdollar_usage_daily (kilo_user_id, usage_date)
  where organization_id is null;
create unique index idx_microdollar_usage_daily_org
  on microdollar_usage_daily (kilo_user_id, organization_id, usage_date)
  where organization_id is not null;`;

/** Twenty users, two organizations with members, and 2,000 rows over 40 days, most not rolled up. */
export const SEED_ROWS = `
insert into kilocode_users (id, google_user_email, total_microdollars_acquired)
select 'user ' || n, n || '@example.com', 1000000 from generate_series(1, 20) as n;
insert into organizations (name) values ('one'), ('two');
insert into organization_memberships (organization_id, kilo_user_id, role)
select o.id, u.id, 'member' from organizations as o cross join kilocode_users as u;
insert into editor_name (editor_name) values ('vim');
insert into microdollar_usage (kilo_user_id, organization_id, cost, input_tokens, output_tokens,
  cache_write_tokens, cache_hit_tokens, created_at, model)
select 'user ' || 1 + n % 20,
  case when n % 5 = 0 then (select id from organizations where name = 'one') end,
  n % 97, 10, 20, 0, 0, now() - n * interval '30 minutes', 'model ' || n % 3
from generate_series(1, 2000) as n;
insert into microdollar_usage_metadata (id, created_at, message_id, editor_name_id)
select id, created_at, 'message ' || row_number() over (), 1 from microdollar_usage;
update kilocode_users as u
set microdollars_used = 500 + (
  select coalesce(sum(m.cost), 0) from microdollar_usage as m
  where m.kilo_user_id = u.id and m.organization_id is null);
update organizations as o
set microdollars_used = coalesce((
  select sum(m.cost) from microdollar_usage as m where m.organization_id = o.id), 0);`;

/**
 * The seed's write, as its authors describe it: usage row, daily upsert and balance in one
 * statement, as a program does that knows nothing of the ledger. Parameters: kilo_user_id, cost.
 */
export const SEED_WRITE = `/* seed write */
with usage as (
  insert into microdollar_usage (kilo_user_id, cost, input_tokens, output_tokens,
    cache_write_tokens, cache_hit_tokens)
  values ($1::text, $2::bigint, 1, 1, 0, 0)
  returning id, kilo_user_id, cost, created_at
), metadata as (
  insert into microdollar_usage_metadata (id, created_at, message_id, status_code)
  select id, created_at, 'm', 200
  from usage
), daily as (
  insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
  select kilo_user_id, (created_at at time zone 'UTC')::date, cost
  from usage
  on conflict (kilo_user_id, usage_date) where organization_id is null
  do update set
    total_cost_microdollars = microdollar_usage_daily.total_cost_microdollars
      + excluded.total_cost_microdollars
)
update kilocode_users as u
set microdollars_used = u.microdollars_used + usage.cost
from usage
where u.id = usage.kilo_user_id`;
