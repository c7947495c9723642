import { textArray } from '../db/statement.js';
import { LedgerError } from '../errors.js';
import { isUuid, newUuid } from '../ids.js';
import { parseInstant } from '../instant.js';
import { LOOKUP_NAMES, type LookupName } from '../schema/lookupNames.js';
import type { UsageEvent } from './types.js';

/** How far `created_at` may lie ahead of this process's clock. */
export const MAX_AHEAD_MS = 5 * 60_000;
/** No AI gateway is older: an earlier time is a mistake, and would cost every proof a period. */
export const EARLIEST_MS = Date.UTC(2015, 0, 1);
/** Microdollars; a million dollars in one request is a mistake. */
export const MAX_COST = 1_000_000_000_000;

/** A validated event: every field present, text free of NUL, time in UTC to the microsecond. */
export interface ValidEvent {
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  provider: string | null;
  model: string | null;
  requested_model: string | null;
  inference_provider: string | null;
  project_id: string | null;
  api_key_id: string | null;
  cost: number;
  input_tokens: number;
  output_tokens: number;
  cache_write_tokens: number;
  cache_hit_tokens: number;
  cache_discount: number | null;
  has_error: boolean;
  created_at: string | null;
  /** Metadata columns that are not lookups; null when the event has no metadata. */
  metadata: Record<string, string | number | boolean> | null;
  lookups: Partial<Record<LookupName, string>>;
}

export type FieldRule =
  | { kind: 'text'; maxLength: number; minLength?: number }
  | { kind: 'integer'; min: number; max: number }
  | { kind: 'number' }
  | { kind: 'boolean' }
  | { kind: 'uuid' }
  | { kind: 'tags' }
  | { kind: 'json'; maxLength: number };

const MAX_SAFE = Number.MAX_SAFE_INTEGER;
const INT4_MAX = 2_147_483_647;
const text = (maxLength: number): FieldRule => ({ kind: 'text', maxLength });
const tokens: FieldRule = { kind: 'integer', min: 0, max: MAX_SAFE };
const int4: FieldRule = { kind: 'integer', min: -INT4_MAX, max: INT4_MAX };
const boolean: FieldRule = { kind: 'boolean' };
const number: FieldRule = { kind: 'number' };

export const CORE_RULES = {
  id: { kind: 'uuid' },
  kilo_user_id: { kind: 'text', maxLength: 256, minLength: 1 },
  organization_id: { kind: 'uuid' },
  cost: { kind: 'integer', min: -MAX_COST, max: MAX_COST },
  input_tokens: tokens,
  output_tokens: tokens,
  cache_write_tokens: tokens,
  cache_hit_tokens: tokens,
  provider: text(512),
  model: text(512),
  requested_model: text(512),
  inference_provider: text(512),
  project_id: text(512),
  api_key_id: { kind: 'uuid' },
  cache_discount: { kind: 'integer', min: -MAX_SAFE, max: MAX_SAFE },
  has_error: boolean,
} as const satisfies Record<string, FieldRule>;

export const METADATA_RULES: Readonly<Record<string, FieldRule>> = {
  message_id: text(1024),
  upstream_id: text(1024),
  session_id: text(1024),
  end_user: text(256),
  tags: { kind: 'tags' },
  machine_id: text(1024),
  user_prompt_prefix: text(1024),
  system_prompt_length: int4,
  max_tokens: int4,
  status_code: int4,
  latency: number,
  moderation_latency: number,
  generation_time: number,
  reasoning_tokens: int4,
  has_middle_out_transform: boolean,
  has_tools: boolean,
  is_byok: boolean,
  is_user_byok: boolean,
  is_free: boolean,
  streamed: boolean,
  cancelled: boolean,
  estimated: text(256),
  unpriced: boolean,
  price_source: text(256),
  price_version: text(256),
  market_cost: { kind: 'integer', min: -MAX_COST, max: MAX_COST },
  reported_cost: { kind: 'integer', min: -MAX_COST, max: MAX_COST },
  usage_details: { kind: 'json', maxLength: 8_192 },
  adjusts_usage_id: { kind: 'uuid' },
  correction_number: { kind: 'integer', min: 1, max: INT4_MAX },
  vercel_ip_latitude: number,
  vercel_ip_longitude: number,
};

/** For whom a request was: stored with the metadata, and fields of the event as well. */
export const ATTRIBUTION_RULES = {
  end_user: { kind: 'text', maxLength: 256, minLength: 1 },
  session_id: { kind: 'text', maxLength: 256, minLength: 1 },
  tags: { kind: 'tags' },
} as const satisfies Record<string, FieldRule>;

const ATTRIBUTION_FIELDS = Object.keys(ATTRIBUTION_RULES) as (keyof typeof ATTRIBUTION_RULES)[];
/** A lookup value is unique by a btree index, whose entries are bounded. */
export const LOOKUP_RULE: FieldRule = text(512);

/** Each metadata field's rule, and its name in errors, made once. */
const METADATA_FIELD_RULES = new Map<string, { rule: FieldRule; name: string; isLookup: boolean }>([
  ...LOOKUP_NAMES.map(
    (field) => [field, { rule: LOOKUP_RULE, name: `metadata.${field}`, isLookup: true }] as const,
  ),
  ...Object.entries(METADATA_RULES).map(
    ([field, rule]) => [field, { rule, name: `metadata.${field}`, isLookup: false }] as const,
  ),
]);

/** Field names of an event, for importers and documentation. */
export const EVENT_FIELDS: readonly string[] = [
  ...Object.keys(CORE_RULES),
  ...Object.keys(ATTRIBUTION_RULES),
  'created_at',
  'metadata',
];
const EVENT_FIELD_SET: ReadonlySet<string> = new Set(EVENT_FIELDS);
export const METADATA_FIELDS: readonly string[] = [...Object.keys(METADATA_RULES), ...LOOKUP_NAMES];

/** Counts NUL bytes removed from text. */
export interface Cleaning {
  nulBytesRemoved: number;
}

/**
 * Checks an event as `UsageEvent` declares it; makes an id when there is none. Null and absent are
 * the same. NUL bytes in text are removed and counted: PostgreSQL would refuse the whole statement.
 * @throws LedgerError `invalid_event` with `details.field`
 */
export function validateEvent(
  event: UsageEvent,
  cleaning: Cleaning,
  nowMs = Date.now(),
): ValidEvent {
  requireKnownFields(event, EVENT_FIELDS, EVENT_FIELD_SET);
  const kiloUserId = readCore<string>(event, 'kilo_user_id', cleaning);
  if (kiloUserId === null) throw invalid('kilo_user_id', 'is required');
  const cost = readCore<number>(event, 'cost', cleaning);
  if (cost === null) throw invalid('cost', 'is required: whole microdollars, 1 USD = 1000000');
  const stored = withAttribution(event, readMetadata(event.metadata, cleaning), cleaning);
  return {
    id: readCore<string>(event, 'id', cleaning) ?? newUuid(),
    kilo_user_id: kiloUserId,
    organization_id: readCore<string>(event, 'organization_id', cleaning),
    provider: readCore<string>(event, 'provider', cleaning),
    model: readCore<string>(event, 'model', cleaning),
    requested_model: readCore<string>(event, 'requested_model', cleaning),
    inference_provider: readCore<string>(event, 'inference_provider', cleaning),
    project_id: readCore<string>(event, 'project_id', cleaning),
    api_key_id: readCore<string>(event, 'api_key_id', cleaning),
    cost,
    input_tokens: readCore<number>(event, 'input_tokens', cleaning) ?? 0,
    output_tokens: readCore<number>(event, 'output_tokens', cleaning) ?? 0,
    cache_write_tokens: readCore<number>(event, 'cache_write_tokens', cleaning) ?? 0,
    cache_hit_tokens: readCore<number>(event, 'cache_hit_tokens', cleaning) ?? 0,
    cache_discount: readCore<number>(event, 'cache_discount', cleaning),
    has_error: readCore<boolean>(event, 'has_error', cleaning) ?? false,
    created_at: readCreatedAt(event.created_at, nowMs),
    metadata: stored.metadata,
    lookups: stored.lookups,
  };
}

function readCore<T>(
  event: UsageEvent,
  field: keyof typeof CORE_RULES,
  cleaning: Cleaning,
): T | null {
  return readField(field, event[field], CORE_RULES[field], cleaning) as T | null;
}

/** Normalizes `created_at`: UTC, to the microsecond; not before 2015, at most 5 min ahead. */
function readCreatedAt(value: unknown, nowMs: number): string | null {
  if (value === undefined || value === null) return null;
  const instant = parseInstant(value);
  if (instant === null) {
    throw invalid(
      'created_at',
      'must be an ISO 8601 instant with an offset, like 2026-11-22T10:00:00Z',
    );
  }
  if (instant.epochMs > nowMs + MAX_AHEAD_MS) {
    throw invalid('created_at', 'lies more than 5 minutes ahead of the clock');
  }
  if (instant.epochMs < EARLIEST_MS) {
    throw invalid('created_at', 'lies before 2015-01-01T00:00:00Z');
  }
  return instant.text;
}

type StoredMetadata = Pick<ValidEvent, 'metadata' | 'lookups'>;

/** Adds what the event itself says to its metadata; there is one value of each. */
function withAttribution(
  event: UsageEvent,
  stored: StoredMetadata,
  cleaning: Cleaning,
): StoredMetadata {
  let { metadata } = stored;
  for (const field of ATTRIBUTION_FIELDS) {
    const value = readField(field, event[field], ATTRIBUTION_RULES[field], cleaning);
    if (value === null) continue;
    const other = metadata?.[field] ?? value;
    if (other !== value) throw invalid(field, `differs from metadata.${field}: give one of them`);
    metadata = { ...metadata, [field]: value };
  }
  stored.metadata = metadata;
  return stored;
}

function readMetadata(metadata: UsageEvent['metadata'], cleaning: Cleaning): StoredMetadata {
  if (metadata === undefined || metadata === null) return { metadata: null, lookups: {} };
  requireObject(metadata, 'metadata');
  const columns: Record<string, string | number | boolean> = {};
  const lookups: Partial<Record<LookupName, string>> = {};
  for (const field of Object.keys(metadata)) {
    const known = METADATA_FIELD_RULES.get(field);
    if (known === undefined) throw unknownField(`metadata.${field}`, METADATA_FIELDS);
    const value = metadata[field as keyof typeof metadata];
    const read = readField(known.name, value, known.rule, cleaning);
    if (read === null) continue;
    if (known.isLookup) lookups[field as LookupName] = read as string;
    else columns[field] = read;
  }
  return { metadata: columns, lookups };
}

/** One value by its rule; null for null and absent. */
function readField(
  field: string,
  value: unknown,
  rule: FieldRule,
  cleaning: Cleaning,
): string | number | boolean | null {
  if (value === undefined || value === null) return null;
  switch (rule.kind) {
    case 'text':
      return readText(field, value, rule, cleaning);
    case 'integer':
      if (typeof value !== 'number' || !Number.isInteger(value)) {
        const unit = field === 'cost' ? ' of microdollars (1 USD = 1,000,000)' : '';
        throw invalid(field, `must be a whole number${unit}`);
      }
      if (value < rule.min || value > rule.max) {
        throw invalid(field, `must lie between ${rule.min} and ${rule.max}`);
      }
      return value === 0 ? 0 : value;
    case 'number':
      if (typeof value !== 'number' || !Number.isFinite(value)) {
        throw invalid(field, 'must be a finite number');
      }
      return value;
    case 'boolean':
      if (typeof value !== 'boolean') throw invalid(field, 'must be true or false');
      return value;
    case 'uuid':
      if (!isUuid(value)) throw invalid(field, 'must be a UUID');
      return value.toLowerCase();
    case 'tags':
      return readTags(field, value, cleaning);
    case 'json':
      return readJson(field, value, rule.maxLength, cleaning);
  }
}

export const MAX_TAGS = 16;
export const TAG_RULE = { maxLength: 64, minLength: 1 };

/** As an array literal: sorted, without repeats. None: null. */
function readTags(field: string, value: unknown, cleaning: Cleaning): string | null {
  if (!Array.isArray(value)) throw invalid(field, 'must be an array of texts');
  if (value.length > MAX_TAGS) {
    throw invalid(field, `must hold at most ${MAX_TAGS} texts, holds ${value.length}`);
  }
  const tags = value.map((tag, index) => readText(`${field}.${index}`, tag, TAG_RULE, cleaning));
  return tags.length === 0 ? null : textArray([...new Set(tags)].sort());
}

/** As text; a `jsonb` takes neither NUL nor half of a surrogate pair. */
function readJson(field: string, value: unknown, maxLength: number, cleaning: Cleaning): string {
  requireObject(value, field);
  let json: string;
  try {
    const clean = (text: string) => readText(field, text, { maxLength }, cleaning);
    json = JSON.stringify(value, (_key, each) => (typeof each === 'string' ? clean(each) : each));
  } catch (error) {
    throw error instanceof LedgerError ? error : invalid(field, 'must be an object of JSON values');
  }
  if (json.length > maxLength) {
    throw invalid(field, `must have at most ${maxLength} characters as JSON, has ${json.length}`);
  }
  // An escape, not one of a backslash before the letter.
  if (/(?<!\\)(\\\\)*\\u(0000|d[89a-f])/i.test(json))
    throw invalid(field, 'has a name that is no text');
  return json;
}

export function readText(
  field: string,
  value: unknown,
  rule: { maxLength: number; minLength?: number },
  cleaning: Cleaning,
): string {
  if (typeof value !== 'string') throw invalid(field, 'must be a string');
  let clean = value;
  if (clean.includes('\0')) {
    clean = clean.replaceAll('\0', '');
    cleaning.nulBytesRemoved += value.length - clean.length;
  }
  if (clean.length > rule.maxLength) {
    throw invalid(field, `must have at most ${rule.maxLength} characters, has ${clean.length}`);
  }
  if (clean.length < (rule.minLength ?? 0)) throw invalid(field, 'must not be empty');
  return clean.isWellFormed() ? clean : clean.toWellFormed();
}

/** @throws LedgerError `invalid_event` when the event is no object or has another field */
export function requireKnownFields(
  event: unknown,
  known: readonly string[],
  isKnown: ReadonlySet<string> = new Set(known),
): void {
  requireObject(event, 'event');
  for (const field of Object.keys(event as object)) {
    if (!isKnown.has(field)) throw unknownField(field, known);
  }
}

function requireObject(value: unknown, name: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(name, 'must be an object');
  }
}

export function invalid(field: string, problem: string): LedgerError {
  return new LedgerError('invalid_event', `${field} ${problem}`, { details: { field } });
}

function unknownField(field: string, known: readonly string[]): LedgerError {
  return new LedgerError(
    'invalid_event',
    `${field.slice(0, 100)} is not a field; known: ${known.join(', ')}`,
    {
      details: { field: field.slice(0, 100) },
    },
  );
}
