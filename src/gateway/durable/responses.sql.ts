import { plainArray, type Statement, textArray } from '../../db/statement.js';
import type { FollowedResponse, MadeResponse } from './types.js';

/**
 * Begins to follow a response, and forgets its intent in the same statement: whichever of the two
 * is there, its usage is not lost.
 */
export function followResponseStatement(
  { intent, response_id, upstream, details }: FollowedResponse,
  lookInSeconds: number,
): Statement {
  return {
    name: 'gateway_follow_response',
    text: `/* gateway.followResponse */
with forgotten as (
  delete from gateway_intents
  where id = $1::uuid
)
insert into gateway_responses (
  usage_id, response_id, upstream, kilo_user_id, organization_id, api_key_id, api_kind,
  requested_model, input_tokens_estimate, max_tokens, streamed, created_at, details, look_at)
values (
  $1::uuid, $2::text, $3::text, $4::text, $5::uuid, $6::text, $7::text,
  $8::text, $9::bigint, $10::bigint, $11::boolean, $12::timestamptz, $13::jsonb,
  now() + make_interval(secs => $14::double precision))
on conflict (usage_id) do nothing`,
    values: [
      intent.id,
      response_id,
      upstream,
      intent.kilo_user_id,
      intent.organization_id,
      intent.api_key_id,
      intent.api_kind,
      intent.requested_model,
      intent.input_tokens_estimate,
      intent.max_tokens,
      intent.streamed,
      intent.created_at,
      JSON.stringify(details),
      lookInSeconds,
    ],
  };
}

export interface ResponseRow {
  usage_id: string;
  response_id: string;
  upstream: string;
  kilo_user_id: string;
  organization_id: string | null;
  api_key_id: string | null;
  api_kind: string;
  requested_model: string | null;
  input_tokens_estimate: string;
  max_tokens: string | null;
  streamed: boolean;
  created_at: string;
  details: Record<string, unknown>;
  looks: number;
  is_settled: boolean;
  /** Of its hold. */
  project_id: string | null;
}

/** Its usage may be there though nobody noted it: then nothing is left to do. */
const COLUMNS = `r.usage_id, r.response_id, r.upstream, r.kilo_user_id, r.organization_id,
  r.api_key_id, r.api_kind, r.requested_model, r.input_tokens_estimate, r.max_tokens, r.streamed,
  to_char(r.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  r.details, r.looks,
  (select h.project_id from usage_holds as h where h.id = r.usage_id) as project_id,
  r.settled_at is not null
    or exists (select from microdollar_usage as u where u.id = r.usage_id) as is_settled`;

/**
 * Takes responses that are due, for a while: another process leaves them alone meanwhile, and takes
 * them again should this one die.
 */
export function claimResponsesStatement(limit: number, leaseSeconds: number): Statement {
  return {
    name: 'gateway_claim_responses',
    text: `/* gateway.claimResponses */
with due as materialized (
  select usage_id
  from gateway_responses
  where settled_at is null
    and look_at <= now()
  order by look_at
  limit $1
  for update skip locked
)
update gateway_responses as r
set look_at = now() + make_interval(secs => $2::double precision),
  looks = r.looks + 1
from due
where r.usage_id = due.usage_id
returning ${COLUMNS}`,
    values: [limit, leaseSeconds],
  };
}

export function postponeResponseStatement(usageId: string, seconds: number): Statement {
  return {
    name: 'gateway_postpone_response',
    text: `/* gateway.postponeResponse */
update gateway_responses
set look_at = now() + make_interval(secs => $2::double precision)
where usage_id = $1::uuid
  and settled_at is null`,
    values: [usageId, seconds],
  };
}

export function settleResponseStatement(usageId: string): Statement {
  return {
    name: 'gateway_settle_response',
    text: `/* gateway.settleResponse */
update gateway_responses
set settled_at = now()
where usage_id = $1::uuid
  and settled_at is null`,
    values: [usageId],
  };
}

/** The newest of that name which the key made. */
export function findResponseStatement(responseId: string, apiKeyId: string): Statement {
  return {
    name: 'gateway_find_response',
    text: `/* gateway.findResponse */
select ${COLUMNS}
from gateway_responses as r
where r.response_id = $1::text
  and r.api_key_id = $2::text
order by r.created_at desc
limit 1`,
    values: [responseId, apiKeyId],
  };
}

/** Who made responses that are metered already. In id order, as intents are. */
export function keepResponsesStatement(responses: readonly MadeResponse[]): Statement {
  const column = <T>(read: (intent: MadeResponse['intent']) => T) =>
    responses.map(({ intent }) => read(intent));
  const items = responses.flatMap(({ intent, item_ids: ids }) => ids.map((id) => ({ id, intent })));
  return {
    name: 'gateway_keep_responses',
    text: `/* gateway.keepResponses */
with made as (
  insert into gateway_response_items (item_id, usage_id, kilo_user_id)
  select i.item_id, i.usage_id, i.kilo_user_id
  from unnest($9::text[], $10::uuid[], $11::text[]) as i(item_id, usage_id, kilo_user_id)
  order by i.item_id, i.usage_id
  on conflict do nothing
)
insert into gateway_responses (
  usage_id, response_id, upstream, kilo_user_id, organization_id, api_key_id, api_kind,
  input_tokens_estimate, streamed, created_at, details, settled_at)
select r.usage_id, r.response_id, r.upstream, r.kilo_user_id, r.organization_id, r.api_key_id,
  r.api_kind, 0, false, r.created_at, '{}', now()
from unnest(
  $1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[],
  $8::timestamptz[]
) as r(usage_id, response_id, upstream, kilo_user_id, organization_id, api_key_id, api_kind,
  created_at)
order by r.usage_id
on conflict (usage_id) do nothing`,
    values: [
      plainArray(column(({ id }) => id)),
      textArray(responses.map(({ response_id }) => response_id)),
      textArray(responses.map(({ upstream }) => upstream)),
      textArray(column(({ kilo_user_id }) => kilo_user_id)),
      plainArray(column(({ organization_id }) => organization_id)),
      textArray(column(({ api_key_id }) => api_key_id)),
      textArray(column(({ api_kind }) => api_kind)),
      plainArray(column(({ created_at }) => created_at)),
      textArray(items.map(({ id }) => id)),
      plainArray(items.map(({ intent }) => intent.id)),
      textArray(items.map(({ intent }) => intent.kilo_user_id)),
    ],
  };
}

/** The user who made the newest of that name. */
export function findResponseUserStatement(responseId: string): Statement {
  return {
    name: 'gateway_find_response_user',
    text: `/* gateway.findResponseUser */
select kilo_user_id
from gateway_responses
where response_id = $1::text
order by created_at desc
limit 1`,
    values: [responseId],
  };
}

/** Who made items of these names. */
export function findItemUsersStatement(itemIds: readonly string[]): Statement {
  return {
    name: 'gateway_find_item_users',
    text: `/* gateway.findItemUsers */
select item_id, kilo_user_id
from gateway_response_items
where item_id = any ($1::text[])`,
    values: [textArray(itemIds)],
  };
}

/**
 * Providers keep a response for 30 days. Ids grow with time, so the oldest are found by the primary
 * key; of those that are too young, or open, a page is looked at in vain, and no more.
 */
export function forgetResponsesStatement(limit: number): Statement {
  return {
    name: 'gateway_forget_responses',
    text: `/* gateway.forgetResponses */
with forgotten as (
  delete from gateway_responses
  where usage_id in (select usage_id from gateway_responses order by usage_id limit $1)
    and settled_at < now() - interval '30 days'
  returning usage_id
), items as (
  delete from gateway_response_items
  where usage_id in (select usage_id from forgotten)
)
select usage_id
from forgotten`,
    values: [limit],
  };
}
