import type { Statement } from '../db/statement.js';
import { plainArray, textArray } from '../db/statement.js';
import type { ValidEvent } from '../record/event.js';

/**
 * Usage rows and nothing else, as a program that knows no rollup or balance would write them:
 * an old version during a rolling deploy, a script. Returns the ids it inserted.
 *
 * - sorted: in id order, so that two imports of one file cannot deadlock
 * - on conflict do nothing: the id decides
 */
export function insertRawStatement(events: readonly ValidEvent[]): Statement {
  const column = <Name extends keyof ValidEvent>(name: Name) => events.map((event) => event[name]);
  return {
    name: 'import_insert_raw',
    text: `
      insert into microdollar_usage (
        id, kilo_user_id, organization_id, provider, model, requested_model, inference_provider,
        project_id, cost, input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens,
        cache_discount, has_error, created_at, api_key_id)
      select id, kilo_user_id, organization_id, provider, model, requested_model,
        inference_provider, project_id, cost, input_tokens, output_tokens, cache_write_tokens,
        cache_hit_tokens, cache_discount, has_error, coalesce(created_at, now()), api_key_id
      from unnest(
        $1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
        $14::bigint[], $15::boolean[], $16::timestamptz[], $17::uuid[]
      ) as sorted (
        id, kilo_user_id, organization_id, provider, model, requested_model, inference_provider,
        project_id, cost, input_tokens, output_tokens, cache_write_tokens, cache_hit_tokens,
        cache_discount, has_error, created_at, api_key_id)
      order by id
      on conflict (id) do nothing
      returning id`,
    values: [
      plainArray(column('id')),
      textArray(column('kilo_user_id')),
      plainArray(column('organization_id')),
      textArray(column('provider')),
      textArray(column('model')),
      textArray(column('requested_model')),
      textArray(column('inference_provider')),
      textArray(column('project_id')),
      plainArray(column('cost')),
      plainArray(column('input_tokens')),
      plainArray(column('output_tokens')),
      plainArray(column('cache_write_tokens')),
      plainArray(column('cache_hit_tokens')),
      plainArray(column('cache_discount')),
      plainArray(column('has_error')),
      plainArray(column('created_at')),
      plainArray(column('api_key_id')),
    ],
  };
}

/** First UTC day that is not archived; null: none is. */
export function firstOpenDayStatement(): Statement {
  return {
    name: 'import_first_open_day',
    text: `
      select to_char(archive_horizon at time zone 'UTC', 'YYYY-MM-DD') as day
      from ledger_settings
      where id = 1`,
    values: [],
  };
}
