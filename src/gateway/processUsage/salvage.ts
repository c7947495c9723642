import { asCount, asObject, type JsonObject, parseObject } from './json.js';

const COUNTS = ['prompt_tokens', 'completion_tokens', 'input_tokens', 'output_tokens'];

/**
 * What billing needs from an event or a body that was too long to be kept whole: every format
 * names type, id and model near its start and its usage near its end. Within a JSON string the
 * quotes would be escaped, so `"usage":` is a key; that it holds token counts makes it the one.
 */
export function salvage(text: string): JsonObject | null {
  const usage = findUsage(text);
  if (usage === null) return null;
  const fields: Record<string, unknown> = { usage, ...findImageTool(text) };
  for (const name of ['id', 'model', 'status', 'stop_reason', 'service_tier', 'provider']) {
    fields[name] = new RegExp(`"${name}"\\s*:\\s*"([^"\\\\]{1,512})"`).exec(text)?.[1];
  }
  const type = /"type"\s*:\s*"(response\.[a-z]+|message_[a-z]+)"/.exec(text)?.[1];
  if (type === undefined) return fields;
  return type.startsWith('response.') ? { type, response: fields } : { ...fields, type };
}

/** An answer is rarely as long as with an image in it: what drew it is paid for, too. */
function findImageTool(text: string): { tool_usage?: JsonObject; tools?: JsonObject[] } {
  const opening = /"tool_usage"\s*:\s*\{/.exec(text);
  const used = opening && parseObject(objectAt(text, opening.index + opening[0].length - 1));
  if (!used) return {};
  const tool = /\{[^{}]*"type"\s*:\s*"image_generation"[^{}]*\}/.exec(text)?.[0] ?? '';
  const model = /"model"\s*:\s*"([^"\\]{1,512})"/.exec(tool)?.[1];
  return {
    tool_usage: used,
    ...(model === undefined ? {} : { tools: [{ type: 'image_generation', model }] }),
  };
}

/** Members of that name that are looked at: each costs a look at the rest of the text. */
const MAX_LOOKS = 100;

function findUsage(text: string): JsonObject | null {
  let looks = 0;
  for (let at = text.lastIndexOf('"usage"'); at > -1; at = text.lastIndexOf('"usage"', at - 1)) {
    if (looks++ >= MAX_LOOKS) break;
    const opening = /^"usage"\s*:\s*\{/.exec(text.slice(at, at + 64));
    const usage = opening && parseObject(objectAt(text, at + opening[0].length - 1));
    if (usage && COUNTS.some((name) => asCount(usage[name]) !== null)) return asObject(usage);
    if (at === 0) break;
  }
  return null;
}

/** The object whose brace opens at `from`, up to the brace that closes it. */
function objectAt(text: string, from: number): string {
  let depth = 0;
  let isInString = false;
  for (let at = from; at < text.length; at++) {
    const char = text[at];
    if (isInString) {
      if (char === '\\') at++;
      else if (char === '"') isInString = false;
    } else if (char === '"') isInString = true;
    else if (char === '{') depth++;
    else if (char === '}' && --depth === 0) return text.slice(from, at + 1);
  }
  return '';
}
