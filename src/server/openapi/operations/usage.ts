import { type JsonSchema, usageEventSchema } from '../../../record/eventSchema.js';
import {
  CLOUD_EVENT,
  CLOUD_EVENT_BATCH,
  CLOUD_EVENT_NAMESPACE,
  CLOUD_EVENT_TYPE,
  cloudEvent,
  idOf,
} from '../../cloudEvents.js';
import { cloudEventBatch, usageBody } from '../../routes/usage.js';
import { EXAMPLE } from '../examples.js';
import { toJsonSchema } from '../jsonSchema.js';
import type { OperationDoc } from '../types.js';

const CLOUD_EVENT_EXAMPLE = {
  specversion: '1.0',
  id: 'req-81321',
  source: 'urn:example:billing',
  type: CLOUD_EVENT_TYPE,
  subject: EXAMPLE.user,
  data: { cost: 1250, model: 'gpt-4o', input_tokens: 900, output_tokens: 120 },
};

const event = usageEventSchema();
const { id: _id, ...dataFields } = event.properties as Record<string, JsonSchema>;

export const usageSchemas = {
  UsageEvent: event,
  UsageBatch: toJsonSchema(usageBody),
  CloudEvent: toJsonSchema(cloudEvent),
  CloudEventBatch: toJsonSchema(cloudEventBatch),
  CloudEventData: {
    ...event,
    properties: dataFields,
    required: ['cost'],
    description: 'A usage event without `id`; user and time where the attributes do not say them.',
  },
};

export const usageOperations: readonly OperationDoc[] = [
  {
    id: 'recordUsage',
    method: 'post',
    path: '/api/usage',
    tag: 'usage',
    summary: 'Record usage',
    description: `Durably, and once for each \`id\`: the same events again, after a timeout or an error,
answer \`duplicate\` and change nothing. Results come in the order of the events; one that is rejected
harms no other. A user's key writes for that user alone, also in organizations of theirs; a service key for
any user.

**CloudEvents 1.0**: structured (\`${CLOUD_EVENT}\`), batched
(\`${CLOUD_EVENT_BATCH}\`), or binary (JSON with \`ce-*\` headers). \`type\` is
\`${CLOUD_EVENT_TYPE}\`. \`subject\` becomes \`kilo_user_id\`, \`time\` \`created_at\`, \`data\` the
other fields; the id is the UUID version 5 of \`source\`, a space and \`id\` in the namespace
\`${CLOUD_EVENT_NAMESPACE}\`. Other attributes are taken as extensions and not kept. A single event
that is refused answers with the status of its error, since its sender looks at nothing else; of a batch each
has its result, as of a list of events.`,
    scope: 'usage:write',
    bodies: [
      {
        schema: 'UsageBatch',
        example: {
          events: [
            {
              id: EXAMPLE.usage,
              kilo_user_id: EXAMPLE.user,
              cost: 1250,
              model: 'gpt-4o',
              provider: 'openai',
              input_tokens: 900,
              output_tokens: 120,
              tags: ['beta'],
              metadata: { feature: 'chat', latency: 231 },
            },
          ],
        },
      },
      { schema: 'CloudEvent', mediaType: CLOUD_EVENT, example: CLOUD_EVENT_EXAMPLE },
      {
        schema: 'CloudEventBatch',
        mediaType: CLOUD_EVENT_BATCH,
        example: [CLOUD_EVENT_EXAMPLE, { ...CLOUD_EVENT_EXAMPLE, id: 'req-81322' }],
      },
    ],
    answers: {
      200: {
        description: 'One result an event, in order',
        body: {
          schema: 'UsageResults',
          example: {
            results: [
              {
                id: idOf(CLOUD_EVENT_EXAMPLE.source, CLOUD_EVENT_EXAMPLE.id),
                status: 'recorded',
                created_at: EXAMPLE.atMicros,
                new_microdollars_used: 1250,
              },
              {
                id: null,
                status: 'rejected',
                created_at: null,
                new_microdollars_used: null,
                error: {
                  code: 'invalid_event',
                  message: 'cost is required: whole microdollars, 1 USD = 1000000',
                  details: { field: 'cost' },
                },
              },
            ],
          },
        },
      },
    },
    errors: [
      'invalid_event',
      'unknown_user',
      'unknown_organization',
      'idempotency_conflict',
      'archived_period',
      'payload_too_large',
    ],
  },
];
