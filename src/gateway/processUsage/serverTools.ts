import { asCount, asObject, type JsonObject, objectsIn } from './json.js';
import { COUNT_NAMES, countIn, promptDetails } from './usageNames.js';

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
const PLACES: ReadonlySet<string> = new Set([
  'server_tool_use',
  'server_side_tool_usage',
  'server_side_tool_usage_details',
  'plugins',
  'connectors',
  'tool_usage',
]);
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
  // LiteLLM counts them within the details of the prompt.
  charge('web_searches', countIn([usage, ...promptDetails(usage)], SEARCHES) ?? 0);
  charge('search_sources', asCount(usage.num_sources_used) ?? 0);
  for (const tools of placesOf(usage)) readToolCounts(tools, charge);
}

function placesOf(usage: JsonObject): JsonObject[] {
  const places: JsonObject[] = [];
  for (const [name, value] of Object.entries(usage)) {
    const object = asObject(value);
    if (object === null) continue;
    const isPlace = PLACES.has(name) || (LIKE_TOOLS.test(name) && !UNLIKE_CALLS.test(name));
    if (isPlace) places.push(object);
  }
  return places;
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

/** Where translators in front of Gemini put what it searched for. */
const GROUNDING = [
  'vertex_ai_grounding_metadata',
  'grounding_metadata',
  'groundingMetadata',
] as const;

/** Searches that are told by their words, in an answer, a choice or its message. */
export function countGroundingSearches(places: readonly JsonObject[]): number {
  const told = places.flatMap((place) => GROUNDING.map((name) => place[name]));
  const metadata = told.flatMap((each) => objectsIn(Array.isArray(each) ? each : [each]));
  const queries = metadata.flatMap((each) => each.webSearchQueries ?? each.web_search_queries);
  return new Set(queries.filter((query) => typeof query === 'string' && query !== '')).size;
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
