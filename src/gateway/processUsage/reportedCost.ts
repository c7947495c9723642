import { asObject, asText, decimalText, type JsonObject, objectsIn } from './json.js';

/**
 * What a provider says that a request cost, wherever and however it says it. Names of members, in
 * the order in which they are believed, each with the power of ten that makes USD of its unit.
 */
const COST_NAMES: readonly (readonly [name: string, exponent: number])[] = [
  // OpenRouter, Perplexity (an object), LiteLLM, Kilo.
  ['cost', 0],
  ['total_cost', 0],
  ['cost_usd', 0],
  ['cost_in_usd', 0],
  ['total_cost_usd', 0],
  // LLM Gateway.
  ['cost_usd_total', 0],
  // UiPath: in a frame of its own after the end.
  ['associated_dollar_cost', 0],
  // xAI: ticks of 10^-10 USD.
  ['cost_in_usd_ticks', -10],
  ['cost_usd_ticks', -10],
  ['cost_in_nano_usd', -9],
  ['cost_in_microdollars', -6],
  ['cost_microdollars', -6],
  ['cost_in_micro_usd', -6],
  ['cost_in_usd_cents', -2],
  ['cost_usd_cents', -2],
  ['cost_in_cents', -2],
  ['cost_cents', -2],
  // Dify; it names the currency.
  ['total_price', 0],
  // AI/ML API.
  ['usd_spent', 0],
  // DeepInfra.
  ['estimated_cost', 0],
  ['estimated_cost_usd', 0],
  ['response_cost', 0],
  ['request_cost', 0],
  ['costUsd', 0],
  ['costUSD', 0],
  ['totalCost', 0],
  ['estimatedCost', 0],
];

/** Of a cost that is an object: the member that is the whole. */
const TOTAL_NAMES = ['total_cost', 'total', 'total_cost_usd', 'total_usd', 'cost', 'usd', 'amount'];
/** Objects, of a usage or beside it, that may hold a total where there is none outside. */
const DETAIL_NAMES = [
  'cost_details',
  'cost_breakdown',
  'cost_info',
  'billing',
  'x_nanogpt_pricing',
  // LiteLLM.
  '_hidden_params',
  'hidden_params',
];
/** Beside an answer: an object whose `usage` may tell of the cost (AI/ML API). */
const META = 'meta';
/** Of a cost that is told in parts: those that every request has, by one name or another. */
const MAIN_PARTS = /^(input|prompt|output|completion)(_tokens?)?_cost$/;
/** The same within an object that is the cost: `{ "input": 0.001, "output": 0.002 }`. */
const INNER_PARTS =
  /^((input|prompt|output|completion|request|reasoning|search|tools?|images?|audio)|cache.*)$/i;
/** No part of what is asked for: what others are paid, or would be. */
const NO_PARTS = /^(upstream|market|list|original|base|estimated|total)_/;
/** Members that tell what a cost is counted in. */
const USD = /^(usd|us[ _]?dollars?|dollars?|\$)$/i;
const UNITS = ['currency', 'cost_currency', 'cost_unit', 'currency_code'] as const;
/** Vercel's gateway reports beside the answer, in the messages of its choices too. */
const METADATA_NAMES = ['provider_metadata', 'providerMetadata'];

/**
 * USD as decimal text, in the sender's digits; null where no cost is reported in USD. A cost of 0
 * gives way to another spelling that is more.
 */
export function readReportedCost(
  payload: JsonObject,
  usage: JsonObject | null,
  text: string,
): string | null {
  let zero: string | null = null;
  for (const place of placesOf(payload, usage)) {
    const isInParts = Object.keys(place).some((name) => MAIN_PARTS.test(name));
    for (const [name, exponent] of COST_NAMES) {
      // A fee beside the others.
      if (isInParts && name === 'request_cost') continue;
      const usd = readAmount(place[name], name, exponent, text);
      if (usd === null) continue;
      if (Number(usd) > 0) return usd;
      zero ??= usd;
    }
    const sum = isInParts ? sumOfParts(place) : null;
    if (sum !== null && Number(sum) > 0) return sum;
    zero ??= sum;
  }
  return zero;
}

/** USD as decimal text, of a header; null for none, and for 0: LiteLLM sends that where it knows none. */
export function readCostHeader(value: string | string[] | undefined): string | null {
  const usd = typeof value === 'string' ? decimalText('', '', value) : null;
  return usd !== null && Number(usd) > 0 ? usd : null;
}

function placesOf(payload: JsonObject, usage: JsonObject | null): JsonObject[] {
  const details = objectsIn([usage, payload]).flatMap((place) =>
    DETAIL_NAMES.map((name) => place[name]),
  );
  const choices = objectsIn(payload.choices);
  const messages = choices.flatMap((choice) => objectsIn([choice.message, choice.delta]));
  const gateways = [payload, ...choices, ...messages].flatMap((place) =>
    METADATA_NAMES.map((name) => asObject(place[name])?.gateway),
  );
  const { usage: metered } = asObject(payload[META]) ?? {};
  return objectsIn([usage, ...gateways, ...details, payload, metered]).filter(isInUsd);
}

function isInUsd(place: JsonObject): boolean {
  return UNITS.every((name) => USD.test(asText(place[name]) ?? 'USD'));
}

function readAmount(value: unknown, name: string, exponent: number, text: string): string | null {
  const object = asObject(value);
  if (object === null) return scale(decimalText(text, name, value), exponent);
  if (!isInUsd(object)) return null;
  for (const total of TOTAL_NAMES) {
    const usd = decimalText(text, total, object[total]);
    if (usd !== null) return scale(usd, exponent);
  }
  return scale(sumOfParts(object) ?? sumOfParts(object, INNER_PARTS), exponent);
}

/** `input_tokens_cost`, `request_cost`, ...: all of them, where no total is given. */
function sumOfParts(cost: JsonObject, names = /_cost$/): string | null {
  const parts = Object.entries(cost)
    .filter(([name]) => names.test(name) && !NO_PARTS.test(name))
    .flatMap(([name, value]) => decimalText('', name, value) ?? []);
  if (parts.length === 0) return null;
  const sum = parts.reduce((total, part) => total + Number(part), 0);
  return String(Number(sum.toPrecision(15)));
}

function scale(decimal: string | null, exponent: number): string | null {
  if (decimal === null || exponent === 0) return decimal;
  const [digits = '', power = '0'] = decimal.split(/e/i);
  return `${digits}e${Number(power) + exponent}`;
}
