import { asCount, asObject, asText, type JsonObject, objectsIn } from './json.js';
import { mergeUsage } from './mergeUsage.js';
import { readToolTokens } from './openaiUsage.js';
import { nameCharge, readToolCounts } from './serverTools.js';
import type { OtherModelUsage } from './types.js';

/** Of an image tool that names no model (OpenAI's documented default). */
const DEFAULT_IMAGE_MODEL = 'gpt-image-1';
/** Gigabytes of a container of code unless its tool says otherwise; its price grows with them. */
const DEFAULT_CONTAINER_GB = 1;
const MAX_ITEMS = 10_000;
/** Their price depends on the model. */
export const WEB_SEARCH_PREVIEWS = 'web_search_previews';

export interface HostedToolUsage {
  charges: Readonly<Record<string, number>>;
  otherModels: readonly OtherModelUsage[];
  doubts: readonly string[];
  /** Its searches are those of the tool before, whoever counted them. */
  hasPreviews: boolean;
}

/**
 * What a response's own tools used beside its `usage`: searches by the call, containers of code by
 * the session (in gigabytes: a session of 4 GB counts four times, as it is priced), images by
 * the tokens of the model that drew them. Calls are told by the items of the output, which a stream
 * brings one by one, so that they are known also where the end never comes.
 */
export class HostedTools {
  readonly #items = new Map<string, JsonObject>();
  #tools: readonly JsonObject[] = [];
  #reported: JsonObject = {};

  addItem(item: JsonObject): void {
    const { type, id, call_id, action, container_id, environment, status } = item;
    if (this.#items.size >= MAX_ITEMS) return;
    const key = asText(id) ?? asText(call_id) ?? `#${this.#items.size}`;
    // Not the whole item: an image is large.
    this.#items.set(key, { type, action, container_id, environment, status });
  }

  /** An output of its own is whole: it takes the place of what came one by one. */
  readResponse(response: JsonObject): void {
    const output = objectsIn(response.output);
    if (output.length > 0) {
      this.#items.clear();
      for (const item of output) this.addItem(item);
    }
    const tools = objectsIn(response.tools);
    if (tools.length > 0) this.#tools = tools;
    const reported =
      asObject(response.tool_usage) ?? asObject(asObject(response.usage)?.tool_usage);
    if (reported !== null) this.#reported = mergeUsage(this.#reported, reported);
  }

  count(): HostedToolUsage {
    const items = [...this.#items.values()];
    const charges: Record<string, number> = {};
    const raise = (name: string, count: number) => {
      if (count > 0) charges[name] = Math.max(charges[name] ?? 0, count);
    };
    const hasPreviews = this.#tools.some(isPreview);
    const searches = hasPreviews ? WEB_SEARCH_PREVIEWS : 'web_searches';
    raise(searches, items.filter(isWebSearch).length);
    raise('file_searches', items.filter(({ type }) => type === 'file_search_call').length);
    raise('code_sessions', countContainers(items) * this.#containerGigabytes());
    // What the provider counted itself takes the place of what is counted here: it may charge for
    // some calls only.
    readToolCounts(this.#reported, (name, count) => {
      charges[name === 'web_searches' ? searches : name] = count;
    });
    const doubts = items.flatMap(nameUnknown);
    const otherModels = this.#readModels(items, doubts);
    return { charges, otherModels, doubts, hasPreviews };
  }

  #readModels(items: readonly JsonObject[], doubts: string[]): OtherModelUsage[] {
    const models: OtherModelUsage[] = [];
    for (const [name, value] of Object.entries(this.#reported)) {
      const draws = name === 'image_gen' || name === 'image_generation';
      const tokens = readToolTokens(asObject(value) ?? {}, draws);
      if (tokens.inputTokens + tokens.outputTokens === 0) continue;
      if (draws) {
        models.push({ model: this.#imageModel(), tool: 'image_generation', tokens });
      } else doubts.push(`charge:${nameCharge(name) ?? name.slice(0, 48)}`);
    }
    const hasImage = items.some(
      ({ type, status }) => type === 'image_generation_call' && status !== 'failed',
    );
    if (hasImage && models.length === 0) doubts.push('charge:image_generation');
    return models;
  }

  #imageModel(): string {
    const tool = this.#tools.find(({ type }) => type === 'image_generation');
    return asText(tool?.model) ?? DEFAULT_IMAGE_MODEL;
  }

  #containerGigabytes(): number {
    const sizes = this.#tools.map((tool) => {
      const container = asObject(tool.container) ?? asObject(tool.environment);
      return asCount(/^(\d{1,3})g$/i.exec(asText(container?.memory_limit) ?? '')?.[1]) ?? 0;
    });
    return Math.max(DEFAULT_CONTAINER_GB, ...sizes);
  }
}

/** Calls of tools that are read here, or that the client runs, or that cost nothing by number. */
const KNOWN_CALLS: ReadonlySet<string> = new Set([
  'function_call',
  'custom_tool_call',
  'computer_call',
  'local_shell_call',
  'shell_call',
  'apply_patch_call',
  'mcp_call',
  'tool_search_call',
  'web_search_call',
  'file_search_call',
  'code_interpreter_call',
  'image_generation_call',
]);

/** The doubt about a call of a tool that nobody knows here. */
function nameUnknown({ type }: JsonObject): string[] {
  const name = asText(type) ?? '';
  if (!/^[a-z0-9_]+_call$/.test(name) || KNOWN_CALLS.has(name)) return [];
  return [`charge:${name.replace(/_call$/, '').slice(0, 48)}`];
}

/** `web_search_preview`, `web_search_preview_2025_03_11`: the tool before `web_search`. */
function isPreview({ type }: JsonObject): boolean {
  return asText(type)?.startsWith('web_search_preview') ?? false;
}

/** Opening a page that was found, or searching within it, is not charged as a search. */
function isWebSearch(item: JsonObject): boolean {
  if (item.type !== 'web_search_call') return false;
  const action = asText(asObject(item.action)?.type);
  return action === null || action === 'search';
}

/** Each is paid for once, however many calls ran in it; calls that name none shared one. */
function countContainers(items: readonly JsonObject[]): number {
  const ids = items.flatMap((item) => {
    const isCode = item.type === 'code_interpreter_call';
    const id = asText(item.container_id) ?? asText(asObject(item.environment)?.container_id);
    if (!isCode && id === null) return [];
    return [id ?? ''];
  });
  return new Set(ids).size;
}
