import { LOOKUP_NAMES } from '../schema/lookupNames.js';
import {
  ATTRIBUTION_RULES,
  CORE_RULES,
  type FieldRule,
  LOOKUP_RULE,
  MAX_TAGS,
  METADATA_RULES,
  TAG_RULE,
} from './event.js';
import type { UsageEvent, UsageMetadata } from './types.js';

/** JSON Schema 2020-12. */
export type JsonSchema = { readonly [keyword: string]: unknown };

const ABOUT = {
  id: 'Idempotency key: the same event again answers `duplicate`. A time-ordered UUID is made when absent.',
  kilo_user_id: 'The user, who must exist.',
  organization_id: 'The organization that pays; null = personal usage.',
  cost: 'Microdollars (1 USD = 1,000,000); 0 is fine; negative (a refund) too, except with a key of a user.',
  input_tokens: 'All tokens of the prompt; the two cache counts are parts of it. Default 0.',
  output_tokens: 'Default 0.',
  cache_write_tokens: 'Default 0.',
  cache_hit_tokens: 'Default 0.',
  created_at:
    'ISO 8601 with an offset, kept to the microsecond; from 2015 to at most 5 minutes ahead. Default: now.',
  provider: 'Who was called.',
  model: 'The model that answered.',
  requested_model: 'The model that was asked for.',
  inference_provider: 'Who ran it, where that is somebody else.',
  project_id: 'Any name; budgets and reports know it.',
  api_key_id:
    'The key that paid. Default: the key in use, which a service key may replace: one that is limited to ' +
    "an organization by a key of that one, or the member's own.",
  end_user: "The application's own user; scrubbed by soft deletion.",
  session_id: "The application's own session; scrubbed by soft deletion.",
  tags: 'Sorted, and without repeats.',
  cache_discount: 'Microdollars that a cache saved.',
  has_error: 'The request failed. Default false.',
  metadata: 'What else is known of the request.',
} as const satisfies Record<keyof UsageEvent, string>;

const ABOUT_METADATA: { readonly [Name in keyof UsageMetadata]?: string } = {
  latency: 'To the first token, ms.',
  moderation_latency: 'ms.',
  generation_time: 'From the first token to the end, ms.',
  status_code: 'HTTP status of the provider.',
  estimated: 'Why the counts are an estimate.',
  unpriced: 'Waits for a price.',
  market_cost: 'Microdollars.',
  reported_cost: 'Microdollars that the provider itself reported.',
  usage_details: 'Any object, at most 8,192 characters as JSON.',
  adjusts_usage_id: 'The usage row that this one corrects; not with a key of a user.',
  correction_number: 'Of the corrections of that row the n-th.',
};

/** What `validateEvent` takes, from the rules by which it judges. */
export function usageEventSchema(): JsonSchema {
  const core = Object.entries({ ...CORE_RULES, ...ATTRIBUTION_RULES });
  const fields = core.map(([field, rule]) => [field, toSchema(rule, isRequired(field))] as const);
  const properties = {
    ...Object.fromEntries(fields),
    created_at: { type: ['string', 'null'], format: 'date-time' },
    metadata: metadataSchema(),
  };
  return {
    type: 'object',
    required: REQUIRED,
    properties: withText(properties, ABOUT),
    additionalProperties: false,
  };
}

const REQUIRED: readonly string[] = ['kilo_user_id', 'cost'];
const isRequired = (field: string) => REQUIRED.includes(field);

function metadataSchema(): JsonSchema {
  const rules = [
    ...Object.entries(METADATA_RULES),
    ...LOOKUP_NAMES.map((name) => [name, LOOKUP_RULE] as const),
  ];
  const properties = Object.fromEntries(rules.map(([name, rule]) => [name, toSchema(rule)]));
  return {
    type: ['object', 'null'],
    properties: withText(properties, ABOUT_METADATA),
    additionalProperties: false,
  };
}

function withText(
  properties: Readonly<Record<string, JsonSchema>>,
  about: Readonly<Record<string, string | undefined>>,
): Record<string, JsonSchema> {
  return Object.fromEntries(
    Object.entries(properties).map(([name, schema]) => {
      const description = about[name];
      return [name, description === undefined ? schema : { ...schema, description }];
    }),
  );
}

function toSchema(rule: FieldRule, isNeeded = false): JsonSchema {
  const type = (name: string) => (isNeeded ? name : [name, 'null']);
  switch (rule.kind) {
    case 'text':
      return { type: type('string'), ...lengths(rule) };
    case 'integer':
      return { type: type('integer'), minimum: rule.min, maximum: rule.max };
    case 'number':
      return { type: type('number') };
    case 'boolean':
      return { type: type('boolean') };
    case 'uuid':
      return { type: type('string'), format: 'uuid' };
    case 'tags':
      return {
        type: type('array'),
        maxItems: MAX_TAGS,
        items: { type: 'string', ...lengths(TAG_RULE) },
      };
    case 'json':
      return { type: type('object'), additionalProperties: true };
  }
}

function lengths({ minLength, maxLength }: { minLength?: number; maxLength: number }): JsonSchema {
  return { ...(minLength === undefined ? {} : { minLength }), maxLength };
}
