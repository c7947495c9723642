import { integer, pgTable, text } from 'drizzle-orm/pg-core';

export * from './lookupNames.js';

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
