import { integer, pgTable, text } from 'drizzle-orm/pg-core';

/** A normalized text value: (<name>_id, <name>). Ids are never reused. */
const lookup = <Name extends string>(name: Name) =>
  pgTable(name, {
    id: integer(`${name}_id`).primaryKey().generatedByDefaultAsIdentity(),
    value: text(name).notNull().unique(`uq_${name}`),
  });

export const httpUserAgent = lookup('http_user_agent');
export const httpIp = lookup('http_ip');
export const vercelIpCity = lookup('vercel_ip_city');
export const vercelIpCountry = lookup('vercel_ip_country');
export const ja4Digest = lookup('ja4_digest');
export const systemPromptPrefix = lookup('system_prompt_prefix');
export const finishReason = lookup('finish_reason');
export const editorName = lookup('editor_name');
export const apiKind = lookup('api_kind');
export const feature = lookup('feature');
export const mode = lookup('mode');
export const autoModel = lookup('auto_model');

/** Every lookup table by name; metadata stores `<name>_id`. Order is the order of creation. */
export const LOOKUP_NAMES = [
  'http_user_agent',
  'http_ip',
  'vercel_ip_city',
  'vercel_ip_country',
  'ja4_digest',
  'system_prompt_prefix',
  'finish_reason',
  'editor_name',
  'api_kind',
  'feature',
  'mode',
  'auto_model',
] as const;

export type LookupName = (typeof LOOKUP_NAMES)[number];

/** Lookups that may identify a person; scrubbed from metadata on soft delete (I11). */
export const PERSONAL_LOOKUP_NAMES = [
  'http_user_agent',
  'http_ip',
  'vercel_ip_city',
  'vercel_ip_country',
  'ja4_digest',
  'system_prompt_prefix',
] as const satisfies readonly LookupName[];
