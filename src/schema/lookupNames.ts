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
