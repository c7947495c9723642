import { asObject, asText, type JsonObject } from './json.js';
import { readModel } from './model.js';

/** Models that think before they answer unless they are told not to. */
const REASONING_MODELS = [
  /(^|[/.:])o[1-9](-|$)/,
  /(^|[/.:])gpt-([5-9]|oss)(?!.*-chat)/,
  /codex/,
  /gemini-(2\.5|[3-9])/,
  /grok-(3-mini|4(?!.*non-reasoning))/,
  /deepseek-r\d/,
  /qwq|magistral/,
  /thinking|reason(?!ing-none)/,
] as const;
const OFF: ReadonlySet<string> = new Set(['none', 'off', 'disabled']);

/** Whether the model may generate tokens that its answer does not show. */
export function mayReason(request: JsonObject): boolean {
  const asked = readWish(request);
  if (asked !== null) return asked;
  const model = readModel(request)?.toLowerCase() ?? '';
  return !model.includes('non-reasoning') && REASONING_MODELS.some((each) => each.test(model));
}

/** What the request says of it, under the names of each API; null = nothing. */
function readWish(request: JsonObject): boolean | null {
  const reasoning = asObject(request.reasoning);
  const effort =
    asText(request.reasoning_effort) ??
    asText(reasoning?.effort) ??
    asText(asObject(request.output_config)?.effort) ??
    asText(asObject(request.thinking)?.type);
  if (effort !== null) return !OFF.has(effort);
  const isOn = request.enable_thinking ?? reasoning?.enabled;
  if (typeof isOn === 'boolean') return isOn;
  return reasoning === null ? null : true;
}
