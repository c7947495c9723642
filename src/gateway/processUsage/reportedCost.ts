import { asObject, asText, decimalText, type JsonObject, objectsIn } from './json.js';
import { toSnakeCase } from './mergeUsage.js';

/**
 * What a provider says that a request cost, wherever and however it says it. Names of members in snake
 * case, in the order in which they are believed; USD.
 */
const COST_NAMES = [
  // OpenRouter, Perplexity (an object), LiteLLM, Kilo.
  'cost',
  'total_cost',
  // LLM Gateway.
  'cost_usd_total',
  'usd_cost',
  // UiPath: in a frame of its own after the end.
  'associated_dollar_cost',
] as const;
/** Believed after those in other units. */
const LATER_COST_NAMES = [
  // Dify; it names the currency.
  'total_price',
  // AI/ML API.
  'usd_spent',
  // DeepInfra.
  'estimated_cost',
  'response_cost',
  'request_cost',
  'billed_cost',
  'actual_cost',
] as const;

/** Units of a cost, with the power of ten that makes USD of each. xAI's ticks are 10^-10. */
const UNITS: readonly (readonly [unit: string, exponent: number])[] = [
  ['ticks?', -10],
  ['nano(s|_?usd|_?dollars?)', -9],
  ['micro(s|_?usd|_?dollars?)', -6],
  ['(usd_)?milli_?cents', -5],
  ['(usd_)?micro_?cents', -8],
  ['milli(s|_?usd|_?dollars?)', -3],
  ['(usd_)?cents?', -2],
];
/** `cost_usd`, `cost_in_usd_ticks`, `total_cost_micros`, `cost_cents`, ... */
const UNIT_NAMES = [['(usd|dollars?)', 0] as const, ...UNITS].map(([unit, exponent]) => ({
  pattern: new RegExp(
    `^((total|request|response|estimated|billed|actual)_)?cost(_in)?(_usd)?_${unit}$`,
  ),
  exponent,
}));
/** What members beside a cost say that it is counted in. */
const UNIT_VALUES = [['(usd|us_?dollars?|dollars?|us\\$|\\$)', 0] as const, ...UNITS].map(
  ([unit, exponent]) => ({ pattern: new RegExp(`^${unit}$`), exponent }),
);
const UNIT_MEMBERS = ['currency', 'cost_currency', 'cost_unit', 'currency_code'] as const;
/** Within an object that is a cost, also. */
const INNER_UNIT_MEMBERS = [...UNIT_MEMBERS, 'unit', 'units'] as const;

/** Of a cost that is an object: the member that is the whole. */
const TOTAL_NAMES = [
  'total_cost',
  'total',
  'total_cost_usd',
  'total_usd',
  'cost',
  'usd',
  'amount',
  'amount_usd',
  'value',
] as const;
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
const MAIN_PARTS = /^(input|prompt|output|completion)(_tokens?)?_cost(_usd)?$/;
/** The same within an object that is the cost: `{ "input": 0.001, "output": 0.002 }`. */
const INNER_PARTS =
  /^((input|prompt|output|completion|request|reasoning|search|tools?|images?|audio)|cache.*)$/i;
/** No part of what is asked for: what others are paid, or would be. */
const NO_PARTS = /^(upstream|market|list|original|base|estimated|total)_/;
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
    for (const usd of amountsIn(place, text)) {
      if (Number(usd) > 0) return usd;
      zero ??= usd;
    }
  }
  return zero;
}

/** In the order in which they are believed. */
function* amountsIn(place: JsonObject, text: string): Iterable<string> {
  const unit = unitOf(place, UNIT_MEMBERS);
  if (unit === null) return;
  const names = Object.keys(place).map((name) => [toSnakeCase(name), name] as const);
  const isInParts = names.some(([name]) => MAIN_PARTS.test(name));
  const read = (wanted: readonly string[]) =>
    wanted.flatMap((known) => {
      // A fee beside the others.
      if (isInParts && known === 'request_cost') return [];
      // A name that says so is in USD, whatever stands beside it.
      const exponent = /usd|dollar/.test(known) ? 0 : unit;
      const found = names.filter(([name]) => name === known);
      return found.flatMap(([, raw]) => readAmount(place[raw], raw, exponent, text) ?? []);
    });
  yield* read(COST_NAMES);
  for (const { pattern, exponent } of UNIT_NAMES) {
    for (const [name, raw] of names) {
      if (!pattern.test(name)) continue;
      const usd = readAmount(place[raw], raw, exponent, text);
      if (usd !== null) yield usd;
    }
  }
  yield* read(LATER_COST_NAMES);
  const sum = isInParts ? sumOfParts(place) : null;
  if (sum !== null) yield scale(sum, unit) as string;
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
  return objectsIn([usage, ...gateways, ...details, payload, metered]);
}

/** The power of ten that makes USD of what is counted here; null = it is none of USD. */
function unitOf(place: JsonObject, members: readonly string[]): number | null {
  let found = 0;
  for (const member of members) {
    const said = asText(place[member])?.trim().toLowerCase().replaceAll(/[ -]/g, '_');
    if (said === undefined) continue;
    const known = UNIT_VALUES.find(({ pattern }) => pattern.test(said));
    if (known === undefined) return null;
    if (known.exponent !== 0) found = known.exponent;
  }
  return found;
}

function readAmount(value: unknown, name: string, exponent: number, text: string): string | null {
  const object = asObject(value);
  if (object === null) return scale(decimalText(text, name, value), exponent);
  const unit = unitOf(object, INNER_UNIT_MEMBERS);
  if (unit === null) return null;
  for (const total of TOTAL_NAMES) {
    const usd = decimalText(text, total, object[total]);
    if (usd !== null) return scale(usd, unit || exponent);
  }
  const named = readNamedUnit(object, text);
  if (named !== null) return named;
  return scale(sumOfParts(object) ?? sumOfParts(object, INNER_PARTS), unit || exponent);
}

/** `{ "USD": 0.005 }`, `{ "micro_usd": 5000 }`. */
function readNamedUnit(cost: JsonObject, text: string): string | null {
  for (const [name, value] of Object.entries(cost)) {
    const known = UNIT_VALUES.find(({ pattern }) => pattern.test(toSnakeCase(name)));
    const amount = known === undefined ? null : decimalText(text, name, value);
    if (known !== undefined && amount !== null) return scale(amount, known.exponent);
  }
  return null;
}

/** `input_tokens_cost`, `request_cost`, ...: all of them, where no total is given. */
function sumOfParts(cost: JsonObject, names = /_cost(_usd)?$/): string | null {
  const parts = Object.entries(cost)
    .filter(([name]) => names.test(toSnakeCase(name)) && !NO_PARTS.test(toSnakeCase(name)))
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
