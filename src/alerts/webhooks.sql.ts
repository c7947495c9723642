import { microsOf } from '../record/instants.sql.js';
import { isPayerElsewhere } from '../schema/elsewhere.js';
import { isNotDeleted } from './alerts.sql.js';

/** Never with a secret. */
export interface WebhookRow {
  id: string;
  payer_scope: 'user' | 'organization' | null;
  payer_id: string | null;
  url: string;
  previous_until_micros: string | null;
  failing_micros: string | null;
  disabled_micros: string | null;
  disabled_reason: string | null;
  created_micros: string;
}

const COLUMNS = `h.id, h.payer_scope, h.payer_id, h.url,
  case when h.previous_secret_until > now() then ${microsOf('h.previous_secret_until')} end
    as previous_until_micros,
  ${microsOf('h.failing_since')} as failing_micros, ${microsOf('h.disabled_at')} as disabled_micros,
  h.disabled_reason, ${microsOf('h.created_at')} as created_micros`;

/** Not of a payer of another shard: the webhook that counts is there. */
const IS_HERE = `(${isPayerElsewhere('h')}) is not true`;

/** $1 scope and $2 id of the payer, null = everybody; $3 URL, $4 secret, $5 by whom, $6 most of a payer. */
export const ADD_WEBHOOK = `/* alerts.addWebhook */
insert into usage_alert_webhooks as h (payer_scope, payer_id, url, secret, created_by)
select p.payer_scope, p.payer_id, $3::text, $4::text, $5::text
from (select $1::text as payer_scope, $2::text as payer_id) as p
where (
  select count(*)
  from usage_alert_webhooks as o
  where o.payer_scope is not distinct from $1::text
    and o.payer_id is not distinct from $2::text
    and o.removed_at is null
) < $6::integer
  and ${isNotDeleted('$1::text', '$2::text')}
  and (${isPayerElsewhere('p')}) is not true
returning ${COLUMNS}`;

/** Of payer $1, $2 alone; with $3 of everybody; or the one with id $4. At most $5. */
export const LIST_WEBHOOKS = `/* alerts.listWebhooks */
select ${COLUMNS}
from usage_alert_webhooks as h
where h.removed_at is null
  and ($3::boolean or (h.payer_scope = $1::text and h.payer_id = $2::text))
  and ($4::uuid is null or h.id = $4::uuid)
order by h.created_at, h.id
limit $5::integer`;

/** Whether anything is told of payer $1, $2: by a webhook of its own or of everybody. */
export const HAS_WEBHOOK = `/* alerts.hasWebhook */
select exists (
  select from usage_alert_webhooks as h
  where h.removed_at is null
    and h.disabled_at is null
    and (h.payer_scope is null or (h.payer_scope = $1::text and h.payer_id = $2::text))
) as has_webhook`;

/** The secret goes, and with a later look what is on its way becomes dead letters. */
export const REMOVE_WEBHOOK = `/* alerts.removeWebhook */
update usage_alert_webhooks as h
set removed_at = now(),
  secret = '',
  previous_secret = null,
  previous_secret_until = null
where h.id = $1::uuid
  and h.removed_at is null
  and ${IS_HERE}
returning ${COLUMNS}`;

/** $2 the new secret, $3 how long the one of now signs as well, hours. */
export const ROTATE_SECRET = `/* alerts.rotateSecret */
update usage_alert_webhooks as h
set previous_secret = case when $3::double precision > 0 then h.secret end,
  previous_secret_until = case when $3::double precision > 0
    then now() + $3::double precision * interval '1 hour' end,
  secret = $2::text
where h.id = $1::uuid
  and h.removed_at is null
  and ${IS_HERE}
returning ${COLUMNS}`;

export const ENABLE_WEBHOOK = `/* alerts.enableWebhook */
update usage_alert_webhooks as h
set disabled_at = null,
  disabled_reason = null,
  failing_since = null
where h.id = $1::uuid
  and h.removed_at is null
  and ${IS_HERE}
returning ${COLUMNS}`;

export interface SecretsRow {
  url: string;
  secret: string;
  previous_secret: string | null;
  payer_scope: string | null;
  payer_id: string | null;
}

/** To sign with; for nobody to see. */
export const READ_SECRETS = `/* alerts.readSecrets */
select h.url, h.secret, h.payer_scope, h.payer_id,
  case when h.previous_secret_until > now() then h.previous_secret end as previous_secret
from usage_alert_webhooks as h
where h.id = $1::uuid
  and h.removed_at is null`;
