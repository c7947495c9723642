import { plainArray, type Statement, textArray } from '../../db/statement.js';
import type { Intent } from './types.js';

/** Makes intents durable. In id order, so that two batches never wait for each other. */
export function insertIntentsStatement(
  intents: readonly { owner: string; intent: Intent }[],
): Statement {
  const column = <T>(read: (intent: Intent) => T) => intents.map(({ intent }) => read(intent));
  return {
    name: 'gateway_insert_intents',
    text: `/* gateway.insertIntents */
insert into gateway_intents (
  id, owner, kilo_user_id, organization_id, api_key_id, api_kind, requested_model,
  input_tokens_estimate, max_tokens, streamed, created_at)
select i.id, i.owner, i.kilo_user_id, i.organization_id, i.api_key_id, i.api_kind,
  i.requested_model, i.input_tokens_estimate, i.max_tokens, i.streamed, i.created_at
from unnest(
  $1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[],
  $8::bigint[], $9::bigint[], $10::boolean[], $11::timestamptz[]
) as i(id, owner, kilo_user_id, organization_id, api_key_id, api_kind, requested_model,
  input_tokens_estimate, max_tokens, streamed, created_at)
order by i.id
on conflict (id) do nothing`,
    values: [
      plainArray(column((intent) => intent.id)),
      plainArray(intents.map(({ owner }) => owner)),
      textArray(column((intent) => intent.kilo_user_id)),
      plainArray(column((intent) => intent.organization_id)),
      textArray(column((intent) => intent.api_key_id)),
      textArray(column((intent) => intent.api_kind)),
      textArray(column((intent) => intent.requested_model)),
      plainArray(column((intent) => intent.input_tokens_estimate)),
      plainArray(column((intent) => intent.max_tokens)),
      plainArray(column((intent) => intent.streamed)),
      plainArray(column((intent) => intent.created_at)),
    ],
  };
}

/**
 * Of intents whose usage is durable: nobody waits for this commit, and should a crash of the server lose
 * it, the usage tells that nothing is left to do. So it is not synced, for requests wait for syncs.
 */
export function deleteSettledIntentsStatement(ids: readonly string[]): Statement {
  return {
    name: 'gateway_delete_settled_intents',
    text: `/* gateway.deleteSettledIntents */
delete from gateway_intents
where id = any($1::uuid[])
  and (select set_config('synchronous_commit', 'off', true)) is not null`,
    values: [plainArray(ids)],
  };
}

/** Committed when it has run. */
export function deleteIntentsStatement(ids: readonly string[]): Statement {
  return {
    name: 'gateway_delete_intents',
    text: `/* gateway.deleteIntents */
delete from gateway_intents
where id = any($1::uuid[])`,
    values: [plainArray(ids)],
  };
}

export function deleteInstanceStatement(owner: string): Statement {
  return {
    name: 'gateway_delete_instance',
    text: `/* gateway.deleteInstance */
delete from gateway_instances
where owner = $1::uuid
  and not exists (select from gateway_intents as i where i.owner = $1::uuid)`,
    values: [owner],
  };
}

/** Owners that have intents, or a heartbeat. */
export function findOwnersStatement(): Statement {
  return {
    name: 'gateway_find_owners',
    text: `/* gateway.findOwners */
select o.owner, g.beat
from (
  select owner from gateway_intents
  union
  select owner from gateway_instances
) as o
left join gateway_instances as g on g.owner = o.owner`,
    values: [],
  };
}

export interface IntentRow extends Omit<Intent, 'input_tokens_estimate' | 'max_tokens'> {
  input_tokens_estimate: string;
  max_tokens: string | null;
  /** Its usage is recorded: the intent was only not removed yet. */
  has_usage: boolean;
  /** Of its hold: budgets count the usage by what was reserved for it. */
  project_id: string | null;
}

/**
 * A page of an owner's intents, by id; `afterId` null = the first. With the time of its hold, where it
 * has one: that is in whose windows the money is.
 */
export function findIntentsStatement(
  owner: string,
  afterId: string | null,
  limit: number,
): Statement {
  return {
    name: 'gateway_find_intents',
    text: `/* gateway.findIntents */
select i.id, i.kilo_user_id, i.organization_id, i.api_key_id, i.api_kind, i.requested_model,
  i.input_tokens_estimate, i.max_tokens, i.streamed,
  to_char(coalesce(h.created_at, i.created_at) at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  h.project_id,
  exists (select from microdollar_usage as u where u.id = i.id) as has_usage
from gateway_intents as i
left join usage_holds as h on h.id = i.id
where i.owner = $1::uuid
  and i.id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
order by i.id
limit $3`,
    values: [owner, afterId, limit],
  };
}
