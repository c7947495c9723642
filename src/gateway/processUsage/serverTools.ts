import { asCount, asObject, type JsonObject } from './json.js';
import { COUNT_NAMES, countIn } from './usageNames.js';

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
/** Objects like these under another name; what is counted in tokens is read elsewhere. */
const LIKE_TOOLS = /(^|_)tools?(_|$)/;
const UNLIKE_CALLS = /token|cost|price|second|duration|latency|_ms$/;
/** In a usage itself. */
const SEARCHES = [
  'num_search_queries',
  'search_queries',
  'web_search_requests',
  'web_search_calls',
  'web_search_count',
  'web_search_queries',
  'web_searches',
  'num_web_searches',
  'num_searches',
  'search_count',
] as const;
const MAX_NAMES = 32;

export function readServerTools(
  usage: JsonObject,
  charge: (name: string, count: number) => void,
): void {
  charge('web_searches', countIn([usage], SEARCHES) ?? 0);
  charge('search_sources', asCount(usage.num_sources_used) ?? 0);
  for (const tools of placesOf(usage)) readToolCounts(tools, charge);
}

function placesOf(usage: JsonObject): JsonObject[] {
  const isLike = (name: string) => LIKE_TOOLS.test(name) && !UNLIKE_CALLS.test(name);
  const names = new Set([...PLACES, ...Object.keys(usage).filter(isLike)]);
  return [...names].map((name) => asObject(usage[name])).filter((each) => each !== null);
}

/** Tools that used another model, of which only the tokens are told. */
export function toolsByTokens(usage: JsonObject): string[] {
  const { prompt, completion } = COUNT_NAMES;
  return placesOf(usage).flatMap((tools) =>
    Object.entries(tools)
      .slice(0, MAX_NAMES)
      .filter(([, tool]) => (countIn([asObject(tool) ?? {}], [...prompt, ...completion]) ?? 0) > 0)
      .flatMap(([name]) => nameCharge(name) ?? []),
  );
}

/** Each member is a number of calls, or an object that holds one. */
export function readToolCounts(
  tools: JsonObject | null,
  charge: (name: string, count: number) => void,
): void {
  for (const [name, value] of Object.entries(tools ?? {}).slice(0, MAX_NAMES)) {
    if (UNLIKE_CALLS.test(name)) continue;
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
