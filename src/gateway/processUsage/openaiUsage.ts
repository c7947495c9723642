import { addUp } from './addUp.js';
import { type Draft, raiseCharge } from './draft.js';
import { BYTES_PER_TOKEN } from './estimateInput.js';
import { asCount, asObject, asText, decimalText, type JsonObject } from './json.js';
import { mergeUsage } from './mergeUsage.js';
import { readReportedCost } from './reportedCost.js';
import { readServerTools, toolsByTokens } from './serverTools.js';
import type { TokenCounts } from './types.js';
import {
  COUNT_NAMES,
  cacheDetails,
  cacheSplits,
  completionDetails,
  countIn,
  countLikeCache,
  promptDetails,
} from './usageNames.js';

/**
 * The `usage` object of OpenAI's APIs and of those compatible with them, under any of their names,
 * on top of what was read before it. False when it holds no count and no cost. `payload`: what it
 * stood in, which may tell of costs beside it.
 */
export function readOpenAiUsage(
  draft: Draft,
  usage: JsonObject,
  text: string,
  payload: JsonObject = {},
): boolean {
  const isCost = readCost(draft, usage, text, payload);
  const { prompt, completion, total } = COUNT_NAMES;
  const own = mergeUsage({}, usage);
  const isCount = countIn([own], [...prompt, ...completion, ...total]) !== null;
  if (!isCount && !isCost) return false;
  const isFirst = Object.keys(draft.reported).length === 0;
  draft.reported = isFirst ? own : mergeUsage(draft.reported, usage);
  if (!isFirst) addTotals(draft, own);
  interpret(draft, draft.reported);
  return true;
}

/**
 * Where a stream tells of the prompt in one chunk and of the completion in another, each with a
 * total of its own, the total of both is the sum.
 */
function addTotals(draft: Draft, own: JsonObject): void {
  const { prompt, completion, total } = COUNT_NAMES;
  const sumOf = (usage: JsonObject) =>
    (countIn([usage], prompt) ?? 0) + (countIn([usage], completion) ?? 0);
  const all = countIn([draft.reported], total);
  const sum = sumOf(draft.reported);
  if (all === null || all >= sum || countIn([own], total) !== sumOf(own)) return;
  draft.reported = mergeUsage(draft.reported, { [total[0]]: sum });
}

function interpret(draft: Draft, usage: JsonObject): void {
  const cacheRead = readCacheHits(usage);
  const [cacheWrite, cacheWrite1h] = readCacheWrites(usage);
  const total = countIn([usage], COUNT_NAMES.total);
  const reasoning = countIn([...completionDetails(usage), usage], COUNT_NAMES.reasoning);
  const searches = asCount(usage.num_search_queries) ?? asCount(usage.citation_tokens);
  // Of speech, which is paid by the second; its tokens are in the total alone (Mistral).
  const audioSeconds = asCount(usage.prompt_audio_seconds);
  const { input, output, doubts } = addUp({
    prompt: promptOf(usage),
    completion: countIn([usage], COUNT_NAMES.completion),
    // Perplexity's leaves reasoning out, though its completion does so too.
    total: searches === null && audioSeconds === null ? total : null,
    cacheRead,
    cacheWrite,
    reasoning,
  });
  for (const doubt of ['total_tokens', 'reasoning_tokens'] as const) {
    if (doubts.includes(doubt)) draft.doubts.add(doubt);
    else draft.doubts.delete(doubt);
  }
  draft.inputTokens = input;
  draft.outputTokens = output;
  draft.totalTokens = input === null && output === null ? total : null;
  draft.reasoningTokens = reasoning;
  draft.cacheHitTokens = cacheRead;
  draft.cacheWriteTokens = cacheWrite;
  draft.cacheWrite1hTokens = cacheWrite1h;
  draft.citationTokens = asCount(usage.citation_tokens) ?? 0;
  const drawn = countDrawn(draft, usage, (output ?? 0) - (reasoning ?? 0));
  Object.assign(draft, readModalities(usage, input ?? 0, cacheRead, drawn));
  readModifiers(draft, usage);
  readServerTools(usage, (name, count) => raiseCharge(draft, name, count));
  for (const name of toolsByTokens(usage)) draft.doubts.add(`charge:${name}`);
  raiseCharge(draft, 'audio_seconds', audioSeconds ?? 0);
}

/** Of an answer with images all is one that is no text; told text is taken off by `readModalities`. */
function countDrawn(draft: Draft, usage: JsonObject, shown: number): number {
  const { imageBytes, textBytes, reasoningBytes } = draft;
  if (imageBytes === 0) return 0;
  if (countIn(completionDetails(usage), ['text_tokens']) !== null) return shown;
  const text = Math.ceil((textBytes - imageBytes - reasoningBytes) / BYTES_PER_TOKEN);
  return Math.max(0, shown - text);
}

function promptOf(usage: JsonObject): number | null {
  const prompt = countIn([usage], COUNT_NAMES.prompt);
  return prompt === null ? null : prompt + (countIn([usage], COUNT_NAMES.toolPrompt) ?? 0);
}

/** Tokens read from a cache, by every name for them. */
export function readCacheHits(usage: JsonObject): number {
  const places = [usage, ...promptDetails(usage)];
  return countIn(places, COUNT_NAMES.cacheRead) ?? countLikeCache(places, 'read') ?? 0;
}

/**
 * Tokens written to a cache: all of them, and those kept for an hour. A stream may split only what its
 * first round wrote (Anthropic's tools): where that has one lifetime, the rest has it too.
 */
export function readCacheWrites(usage: JsonObject): [all: number, forAnHour: number] {
  const places = [usage, ...promptDetails(usage), ...cacheSplits(usage)];
  const hour = countIn(places, COUNT_NAMES.cacheWrite1h) ?? 0;
  const minutes = countIn(places, COUNT_NAMES.cacheWrite5m);
  const told = countIn(places, COUNT_NAMES.cacheWrite) ?? countLikeCache(places, 'write') ?? 0;
  const split = hour + (minutes ?? 0);
  // Each of both lifetimes may be said to be all of it.
  const isTwice = told > 0 && told < split && Math.max(hour, minutes ?? 0) <= told;
  const all = isTwice ? told : Math.max(told, split);
  return [all, hour > 0 && minutes === 0 ? all : hour];
}

/**
 * Parts of the prompt, of what of it came from a cache, and of the output that are no text.
 * @param drawn tokens of the output that are images unless the usage says that they are none
 */
export function readModalities(
  usage: JsonObject,
  prompt: number,
  cached: number,
  drawn = 0,
): Modalities {
  const places = completionDetails(usage);
  const drawnRest = Math.max(0, drawn - (countIn(places, ['text_tokens']) ?? 0));
  const [inputAudioTokens, cacheAudioTokens] = splitPart(usage, 'audio_tokens', prompt, cached);
  const [inputImageTokens, cacheImageTokens] = splitPart(usage, 'image_tokens', prompt, cached);
  return {
    inputAudioTokens,
    inputImageTokens,
    cacheAudioTokens,
    cacheImageTokens,
    outputAudioTokens: countIn(places, ['audio_tokens']) ?? 0,
    outputImageTokens: countIn(places, ['image_tokens']) || drawnRest,
  };
}

type Modalities = Omit<
  TokenCounts,
  'inputTokens' | 'outputTokens' | 'cacheHitTokens' | 'cacheWriteTokens' | 'cacheWrite1hTokens'
>;

/**
 * Tokens of one kind: those not from the cache, and those from it. Where the usage does not tell the
 * latter, they are what has no room in the rest of the prompt.
 */
function splitPart(
  usage: JsonObject,
  name: string,
  prompt: number,
  cached: number,
): [anew: number, fromCache: number] {
  const all = countIn(promptDetails(usage), [name]) ?? 0;
  const told = countIn(cacheDetails(usage), [name]);
  const fromCache = Math.min(cached, told ?? Math.max(0, all + Math.min(0, cached - prompt)));
  // What is larger than a thing is no part of it.
  return [all < fromCache ? all : all - fromCache, fromCache];
}

/**
 * Tokens of a model that a tool used, where its usage is apart from the answer's.
 * @param draws what it makes is an image, also where its parts are not told
 */
export function readToolTokens(reported: JsonObject, draws: boolean): TokenCounts {
  const usage = mergeUsage({}, reported);
  const [cacheWriteTokens, cacheWrite1hTokens] = readCacheWrites(usage);
  const inputTokens = countIn([usage], COUNT_NAMES.prompt) ?? 0;
  const outputTokens = countIn([usage], COUNT_NAMES.completion) ?? 0;
  const cacheHitTokens = Math.min(readCacheHits(usage), inputTokens);
  const parts = readModalities(usage, inputTokens, cacheHitTokens, draws ? outputTokens : 0);
  return {
    ...parts,
    inputTokens,
    outputTokens,
    cacheHitTokens,
    cacheWriteTokens: Math.min(cacheWriteTokens, inputTokens),
    cacheWrite1hTokens: Math.min(cacheWrite1hTokens, cacheWriteTokens, inputTokens),
    inputAudioTokens: Math.min(parts.inputAudioTokens, inputTokens),
    inputImageTokens: Math.min(parts.inputImageTokens, inputTokens),
    outputAudioTokens: Math.min(parts.outputAudioTokens, outputTokens),
    outputImageTokens: Math.min(parts.outputImageTokens, outputTokens),
  };
}

/** What the answer says of how it was made, as far as that has a price. */
export function readModifiers(draft: Draft, place: JsonObject): void {
  const tier =
    readTier(place.service_tier) ?? readTier(place.serviceTier) ?? readTrafficType(place);
  draft.serviceTier = tier?.slice(0, 64) ?? draft.serviceTier;
  draft.speed = asText(place.speed)?.slice(0, 64) ?? draft.speed;
  draft.region = asText(place.inference_geo)?.slice(0, 64) ?? draft.region;
  draft.searchContext = asText(place.search_context_size)?.slice(0, 64) ?? draft.searchContext;
}

/** Bedrock's is an object: `{ "type": "flex" }`. */
function readTier(tier: unknown): string | null {
  return asText(tier) ?? asText(asObject(tier)?.type);
}

/** Google's name for the tier, as Vertex tells it: `ON_DEMAND_FLEX`. */
function readTrafficType(place: JsonObject): string | null {
  const { google } = asObject(place.extra_properties) ?? {};
  const type = asText(place.traffic_type) ?? asText(asObject(google)?.traffic_type);
  return type === null ? null : type.toLowerCase().replace(/^on_demand_/, '');
}

/** True when the provider says what the request cost. Of several reports the largest counts. */
export function readCost(
  draft: Draft,
  usage: JsonObject | null,
  text: string,
  payload: JsonObject,
): boolean {
  if (typeof usage?.is_byok === 'boolean') draft.isByok = usage.is_byok;
  // Most chunks tell of no cost. Without the text nobody knows.
  if (text !== '' && !/cost|total_?price|usd_?spent/i.test(text)) return false;
  const cost = readReportedCost(payload, usage, text);
  if (cost !== null && Number(cost) >= Number(draft.costUsd ?? 0)) {
    const isFirst = draft.costUsd === null || draft.isCostOfNothing;
    draft.isCostOfNothing = isFirst && Number(cost) === 0 && isOfNothing(draft, usage);
    draft.costUsd = cost;
  }
  if (usage === null) return cost !== null;
  const upstream = decimalText(
    text,
    'upstream_inference_cost',
    asObject(usage.cost_details)?.upstream_inference_cost,
  );
  draft.upstreamCostUsd = upstream ?? draft.upstreamCostUsd;
  return cost !== null;
}

/** A cost beside counts of zeros, or after the usage and beside none. */
function isOfNothing(draft: Draft, reported: JsonObject | null): boolean {
  const { prompt, completion, total } = COUNT_NAMES;
  const usage = mergeUsage({}, reported ?? {});
  const counted = countIn([usage], [...prompt, ...completion, ...total]);
  return counted === null ? draft.usage !== 'missing' : counted === 0;
}

/** Fields that OpenAI's chat chunks, chat bodies and responses share. */
export function readOpenAiEnvelope(draft: Draft, payload: JsonObject): void {
  draft.messageId = asText(payload.id) ?? draft.messageId;
  draft.model = asText(payload.model) ?? draft.model;
  draft.inferenceProvider = asText(payload.provider) ?? draft.inferenceProvider;
  readModifiers(draft, payload);
}
