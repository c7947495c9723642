import { LedgerError } from '../../errors.js';
import { type Draft, emptyDraft, type FormatReader, raiseCharge } from './draft.js';
import {
  AUDIO_BYTES_PER_TOKEN,
  BYTES_PER_TOKEN,
  countPrompt,
  FILE_PREFIX,
  isFile,
  TOKENS_PER_FILE,
} from './estimateInput.js';
import { guarded } from './guarded.js';
import { asCount, asObject, asText, type JsonObject, otherError, parseObject } from './json.js';
import { mergeUsage } from './mergeUsage.js';
import { readCacheHits, readCost, readModalities } from './openaiUsage.js';
import { prepareRequest } from './prepareRequest.js';
import { createUsageReader, readWith } from './reader.js';
import { HoldTerminal } from './sideGate.js';
import type { PreparedRequest, StreamGate, UsageReader } from './types.js';
import { COUNT_NAMES, countIn, findUsage } from './usageNames.js';

/** The endpoints beside chat, by how their requests and usage are read. */
export type SideFormat = 'completions' | 'embeddings' | 'images' | 'audio' | 'rerank';

const PROMPT_MEMBERS = ['prompt', 'input', 'query', 'documents', 'instructions'] as const;

/**
 * What a request to one of the side endpoints says, for the intent and an estimate; JSON, or a form
 * with files. The body goes to the provider as it came; only a streamed completion is asked for
 * its usage.
 * @throws LedgerError `invalid_request` for a body that is neither
 */
export async function prepareSideRequest(
  side: SideFormat,
  body: Buffer,
  contentType: string,
): Promise<PreparedRequest> {
  if (/^multipart\/form-data\b/i.test(contentType)) return prepareForm(side, body, contentType);
  const prepared = prepareRequest('openai-chat', body);
  const request = parseObject(body.toString()) ?? {};
  return {
    ...prepared,
    ...(side === 'completions' ? {} : { body, hideUsageChunk: false }),
    ...(side === 'embeddings' || side === 'rerank' ? { choices: 0 } : {}),
    draws: side === 'images',
    inputTokensEstimate: estimateTokens(request, side),
    userPromptPrefix: asText(request.prompt)?.slice(0, 100).toWellFormed() ?? null,
  };
}

async function prepareForm(
  side: SideFormat,
  body: Buffer,
  contentType: string,
): Promise<PreparedRequest> {
  const form = await readForm(body, contentType);
  const field = (name: string) => {
    const value = form.get(name);
    return typeof value === 'string' ? value : undefined;
  };
  const request = { model: field('model'), prompt: field('prompt') };
  const streamed = field('stream') === 'true';
  // Of a transcript the recording alone counts.
  let tokens = side === 'audio' ? 0 : estimateTokens(request, side);
  for (const value of form.values()) {
    if (typeof value === 'string') continue;
    tokens += side === 'audio' ? Math.ceil(value.size / AUDIO_BYTES_PER_TOKEN) : TOKENS_PER_FILE;
  }
  const prepared = prepareRequest('openai-chat', Buffer.from(JSON.stringify(request)));
  const inputTokensEstimate = Math.max(1, tokens);
  return { ...prepared, body, streamed, draws: side === 'images', inputTokensEstimate };
}

async function readForm(body: Buffer, contentType: string): Promise<FormData> {
  try {
    const headers = { 'content-type': contentType };
    return await new Response(Uint8Array.from(body), { headers }).formData();
  } catch {
    throw new LedgerError('invalid_request', 'the body is not a valid multipart form');
  }
}

/**
 * Tokens of the prompts of a request: of texts by their bytes, of token lists by their length. An
 * embedding takes an image as a text that names its kind, too; a document's URL is one of its texts.
 */
function estimateTokens(request: JsonObject, side: SideFormat): number {
  const isFileText = (name: string, value: string) =>
    FILE_PREFIX.test(value) || (side !== 'rerank' && isFile(name, value));
  const { bytes, files, numbers } = countPrompt(request, PROMPT_MEMBERS, isFileText);
  return Math.max(1, numbers + files * TOKENS_PER_FILE + Math.ceil(bytes / BYTES_PER_TOKEN));
}

/** As `createUsageReader`. */
export function createSideReader(side: SideFormat, options: { streamed: boolean }): UsageReader {
  if (side === 'completions') return createUsageReader('openai-chat', options);
  return readWith(guarded(new SideReader(side)), options);
}

/** Holds back the event that ends a stream of images, transcripts or speech. */
export function createSideGate(): StreamGate {
  return new HoldTerminal();
}

/** Whole bodies and events that bear a `usage` in one of the spellings that are known. */
class SideReader implements FormatReader {
  readonly draft: Draft = emptyDraft();
  sawFirstToken = false;
  readonly #side: SideFormat;

  constructor(side: SideFormat) {
    this.#side = side;
  }

  event(payload: JsonObject, text: string): void {
    this.sawFirstToken = true;
    this.#read(payload, text);
    const type = asText(payload.type) ?? '';
    if (/\.(completed|done)$/.test(type)) this.draft.complete = true;
  }

  body(payload: JsonObject, text: string): void {
    this.sawFirstToken = true;
    this.#read(payload, text);
    this.draft.complete = true;
  }

  #read(payload: JsonObject, text: string): void {
    const { draft } = this;
    draft.messageId = asText(payload.id) ?? draft.messageId;
    draft.model = asText(payload.model) ?? draft.model;
    draft.inferenceProvider = asText(payload.provider) ?? draft.inferenceProvider;
    if (payload.error) draft.error = asText(asObject(payload.error)?.type) ?? 'error';
    const spoken = asText(payload.text) ?? asText(payload.delta);
    if (this.#side === 'audio' && spoken !== null) draft.outputBytes += Buffer.byteLength(spoken);
    const usage = findUsage(payload) ?? readRerankUnits(payload) ?? this.#readLength(payload);
    if (usage === null || !this.#readUsage(usage, text, payload)) {
      draft.error ??= otherError(payload);
      if (usage === null) readCost(draft, null, text, payload);
    }
  }

  /** Of speech that was read: all that some answers tell (Groq). */
  #readLength({ duration }: JsonObject): JsonObject | null {
    return this.#side === 'audio' && asSeconds(duration) !== null ? { type: 'duration' } : null;
  }

  /** False when it counts nothing: zeros are what some send for what they do not count. */
  #readUsage(reported: JsonObject, text: string, payload: JsonObject): boolean {
    const { draft } = this;
    readCost(draft, reported, text, payload);
    draft.reported = mergeUsage(draft.reported, reported);
    const usage = draft.reported;
    const { prompt, completion, total } = COUNT_NAMES;
    const output = countIn([usage], completion);
    const seconds = readSeconds(usage, payload);
    // Paid by the second, and by nothing else: it is all that such an answer tells.
    if (seconds > 0) raiseCharge(draft, 'audio_seconds', seconds);
    const all = countIn([usage], total);
    // Tokens of speech, which its seconds pay for, are in the total alone (Mistral).
    const rest = all === null || seconds > 0 ? null : Math.max(0, all - (output ?? 0));
    const told = countIn([usage], prompt);
    const tokens = told || (rest ?? told);
    const searches = tokens === null ? (asCount(usage.search_units) ?? 0) : 0;
    raiseCharge(draft, 'rerank_searches', searches);
    const input = tokens ?? (seconds + searches > 0 ? 0 : null);
    if (input === null) return false;
    if (input + (output ?? 0) + seconds + searches === 0 && !isEmpty(payload)) {
      if (Number(draft.costUsd) === 0) draft.costUsd = null;
      return false;
    }
    draft.inputTokens = input;
    draft.outputTokens = output ?? 0;
    draft.cacheHitTokens = readCacheHits(usage);
    const drawn = this.#side === 'images' ? draft.outputTokens : 0;
    Object.assign(draft, readModalities(usage, input, draft.cacheHitTokens, drawn));
    draft.usage = 'final';
    return true;
  }
}

/** Nothing was asked for, or nothing is left of it. */
function isEmpty(payload: JsonObject): boolean {
  if (payload.error || otherError(payload) !== null) return false;
  const lists = ['data', 'results', 'embeddings']
    .map((name) => payload[name])
    .filter(Array.isArray);
  return lists.length > 0 && lists.every((list) => list.length === 0);
}

/** Whole seconds of speech, where that is what is paid for; 0 = not said. */
function readSeconds(usage: JsonObject, payload: JsonObject): number {
  if (usage.type !== 'duration') return asCount(usage.prompt_audio_seconds) ?? 0;
  return asSeconds(usage.seconds) ?? asSeconds(payload.duration) ?? 0;
}

/** Also as text, as OpenAI's own description of a translation has it. */
function asSeconds(value: unknown): number | null {
  const isText = typeof value === 'string' && /^\d{1,9}(\.\d*)?$/.test(value);
  const seconds = isText ? Number(value) : value;
  return typeof seconds === 'number' ? asCount(Math.ceil(seconds)) : null;
}

/** Cohere's: tokens where it counts them, else searches. */
function readRerankUnits(payload: JsonObject): JsonObject | null {
  const meta = asObject(payload.meta);
  return asObject(meta?.tokens) ?? asObject(meta?.billed_units);
}
