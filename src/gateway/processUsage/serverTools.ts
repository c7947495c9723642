import { asCount, asObject, type JsonObject } from './json.js';

/**
 * Calls of tools that the provider runs itself and charges for by number. Its names for one thing
 * become one name, under which the prices have it; a name that is not known stays, so that the row
 * can say that it has no price.
 */
const CHARGE_NAMES: Readonly<Record<string, string>> = {
  web_search: 'web_searches',
  web_search_preview: 'web_searches',
  search: 'web_searches',
  search_queries: 'web_searches',
  x_search: 'x_searches',
  file_search: 'file_searches',
  collections_search: 'file_searches',
  document_search: 'file_searches',
  attachment_search: 'attachment_searches',
  code_interpreter: 'code_executions',
  code_execution: 'code_executions',
};

/** Paid for by their tokens, or not at all. */
const FREE: ReadonlySet<string> = new Set([
  'web_fetch',
  'tool_search',
  'mcp',
  'function',
  'memory',
  'text_editor',
  'bash',
  'computer',
  'view_image',
  'view_x_video',
  'browse_page',
  'visit_website',
]);

/** Objects of a usage whose members count calls. */
const PLACES = [
  'server_tool_use',
  'server_side_tool_usage',
  'server_side_tool_usage_details',
  'plugins',
  'connectors',
  'tool_usage',
] as const;
/** Where a member is an object, the members of it that count calls. */
const COUNTS = ['num_requests', 'count', 'requests', 'calls', 'num_calls'] as const;
const MAX_NAMES = 32;

export function readServerTools(
  usage: JsonObject,
  charge: (name: string, count: number) => void,
): void {
  charge('web_searches', asCount(usage.num_search_queries) ?? 0);
  charge('search_sources', asCount(usage.num_sources_used) ?? 0);
  for (const place of PLACES) readToolCounts(asObject(usage[place]), charge);
}

/** Each member is a number of calls, or an object that holds one. */
export function readToolCounts(
  tools: JsonObject | null,
  charge: (name: string, count: number) => void,
): void {
  for (const [name, value] of Object.entries(tools ?? {}).slice(0, MAX_NAMES)) {
    const object = asObject(value);
    const count =
      object === null
        ? asCount(value)
        : Math.max(0, ...COUNTS.map((each) => asCount(object[each]) ?? 0));
    const known = nameCharge(name);
    if (count !== null && count > 0 && known !== null) charge(known, count);
  }
}

/** The name that the prices have for a provider's own; null for what costs nothing by number. */
export function nameCharge(name: string): string | null {
  const plain = name
    .toLowerCase()
    .replace(/^server_side_tool_/, '')
    .replace(/^num_/, '')
    .replace(/_(requests?|calls?|count|queries)$/, '')
    .replace(/[^a-z0-9_]/g, '_')
    .slice(0, 48);
  if (plain === '' || FREE.has(plain)) return null;
  return CHARGE_NAMES[plain] ?? plain;
}
