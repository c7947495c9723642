import { LedgerError } from '../../errors.js';
import { estimateInputTokens } from './estimateInput.js';
import { asCount, asObject, asText, type JsonObject, objectsIn } from './json.js';
import { addMember, setMember } from './jsonMembers.js';
import { mayReason } from './mayReason.js';
import { readModel } from './model.js';
import { readNamedItems } from './namedItems.js';
import type { PreparedRequest, WireFormat } from './types.js';

const PREFIX_CHARACTERS = 100;
const MAX_END_USER_CHARACTERS = 256;
const INT4_MAX = 2_147_483_647;
const MAX_CHOICES = 1_000;

/**
 * Reads what the gateway must know of a request before its call. The body goes to the provider as
 * the client sent it; only a chat stream gets `stream_options.include_usage` where that is not
 * true already, in its bytes, with the client's other stream options kept.
 * @param request the body, parsed
 * @throws LedgerError `invalid_request` for a body that is no JSON object
 */
export function prepareRequest(
  format: WireFormat,
  body: Buffer,
  request: JsonObject = parseBody(body),
): PreparedRequest {
  const streamed = request.stream === true;
  const usage = format === 'openai-chat' && streamed ? askForUsage(request, body) : null;
  const prompt = readPrompt(format, request);
  return {
    format,
    body: usage ?? body,
    hideUsageChunk: usage !== null,
    requestedModel: readModel(request),
    streamed,
    maxTokens: readMaxTokens(format, request),
    hasTools: [request.tools, request.functions].some((each) => objectsIn(each).length > 0),
    choices: Math.min(Math.max(1, asCount(request.n) ?? 1), MAX_CHOICES),
    reasons: mayReason(request),
    background: isAsked(request.background),
    deferred: format === 'openai-chat' && isAsked(request.deferred),
    previousResponseId: asText(request.previous_response_id),
    items: format === 'openai-responses' ? readNamedItems(request) : [],
    keepsResponse: format === 'openai-responses' && request.store !== false,
    inputTokensEstimate: estimateInputTokens(request),
    endUser: readEndUser(request),
    userPromptPrefix: toPrefix(prompt.user),
    systemPromptPrefix: toPrefix(prompt.system),
    systemPromptLength: prompt.system === null ? null : prompt.system.length,
  };
}

/** Whatever a provider may take for yes. */
function isAsked(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false;
}

/** @throws LedgerError `invalid_request` for a body that is no JSON object */
export function parseBody(body: Buffer): JsonObject {
  try {
    const request = asObject(JSON.parse(body.toString()));
    if (request !== null) return request;
  } catch {
    // The parser's message quotes the body, which may hold anything.
  }
  throw new LedgerError('invalid_request', 'the body must be a JSON object');
}

/**
 * OpenRouter tells every stream's usage, and `stream_options` have no effect there: its chunk is for the
 * client, and nothing of ours.
 */
export function tellsUsageUnasked(host: string): boolean {
  return /(^|\.)openrouter\.ai$/i.test(host);
}

/** The body that asks for usage; null when the client asked, or when its options are no object. */
function askForUsage(request: JsonObject, body: Buffer): Buffer | null {
  const options = request.stream_options ?? {};
  const known = asObject(options);
  if (known === null || known.include_usage === true) return null;
  const put = Object.hasOwn(request, 'stream_options') ? setMember : addMember;
  return put(body, 'stream_options', { ...known, include_usage: true });
}

function readMaxTokens(format: WireFormat, request: JsonObject): number | null {
  const limit = {
    'openai-chat': asCount(request.max_completion_tokens) ?? asCount(request.max_tokens),
    'openai-responses': asCount(request.max_output_tokens),
    'anthropic-messages': asCount(request.max_tokens),
  }[format];
  return limit === null || limit > INT4_MAX ? null : limit;
}

interface Prompt {
  system: string | null;
  user: string | null;
}

function readPrompt(format: WireFormat, request: JsonObject): Prompt {
  const messages = objectsIn(format === 'openai-responses' ? request.input : request.messages);
  const users = messages.filter((message) => message.role === 'user');
  const user = textOf(users.at(-1)?.content);
  if (format === 'anthropic-messages') return { system: textOf(request.system), user };
  const isSystem = (message: JsonObject) =>
    message.role === 'system' || message.role === 'developer';
  const system = textOf(request.instructions) ?? textOf(messages.find(isSystem)?.content);
  return { system, user: user ?? asText(request.input) };
}

/** A text, or the texts among the parts of a content. */
function textOf(content: unknown): string | null {
  if (typeof content === 'string') return asText(content);
  const texts = objectsIn(content).flatMap((part) => asText(part.text) ?? []);
  return texts.length === 0 ? null : texts.join('\n');
}

/** The application's own user, by which name the provider asks for it. */
function readEndUser(request: JsonObject): string | null {
  const user =
    asText(request.safety_identifier) ??
    asText(request.user) ??
    asText(asObject(request.metadata)?.user_id);
  return user === null || user === ''
    ? null
    : user.slice(0, MAX_END_USER_CHARACTERS).toWellFormed();
}

/** Never ends amid a surrogate pair. */
function toPrefix(text: string | null): string | null {
  return text === null ? null : text.slice(0, PREFIX_CHARACTERS).toWellFormed();
}
