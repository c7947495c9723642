import { applyModifiers } from './applyModifiers.js';
import { addOtherModels, toBilled } from './billedUsage.js';
import {
  type Decimal,
  formatDecimal,
  isMore,
  multiply,
  parseDecimal,
  toMicrodollarsWithin,
  ZERO,
} from './decimal.js';
import { findListPrice, type ListPrice } from './listPrices.js';
import { type ModelPrice, priceUsage } from './modelPrice.js';
import { modifiersOf, namesOf } from './modifiers.js';
import {
  type Factor,
  findFactors,
  findOwnPrice,
  nameModifier,
  type OwnPrices,
  type PriceSubject,
} from './ownPrices.js';
import type { Price, PriceContext, PricedReading, Unpriced } from './pricer.js';
import { reportedUsd } from './reported.js';
import { withPreviews, withToolPrices } from './toolPrices.js';

/** A price before the operator's factors. */
interface BasePrice {
  usd: Decimal;
  source: Price['source'];
  version: string;
  doubts: readonly string[];
}

const isUnpriced = (price: BasePrice | Unpriced): price is Unpriced => 'unpriced' in price;

/**
 * The price of an answer:
 *
 *   own price --else--> reported cost --else--> list price x modifiers
 *        \                   |                    /
 *         x multipliers      |       x multipliers
 *                 \          |          /
 *                        x margins
 */
export function priceReading(
  reading: PricedReading,
  context: PriceContext,
  own: OwnPrices | null,
): Price | Unpriced {
  const models = [reading.model, context.requestedModel].filter((each) => each !== null);
  const named = namesOf(reading, context.upstreamHost ?? null);
  const { organizationId = null, at } = context;
  const subject: PriceSubject = { models, organizationId, named, at };
  const multipliers = own === null ? [] : findFactors(own.multipliers, subject);
  const margins = own === null ? [] : findFactors(own.margins, subject);
  const market = priceAtMarket(reading, context, subject, []);
  const base =
    (own && priceAtOwn(reading, context, subject, own)) ??
    // What a multiplier is for, the list is not changed for as well.
    (multipliers.length === 0 ? market : priceAtMarket(reading, context, subject, multipliers));
  if (isUnpriced(base)) return base;
  const factors = [...(base.source === 'upstream' ? [] : multipliers), ...margins];
  const { microdollars, isCut } = toMicrodollarsWithin(applyFactors(base.usd, factors));
  const doubts = isCut ? [...base.doubts, 'cost'] : base.doubts;
  return {
    costMicrodollars: microdollars,
    marketCostMicrodollars: isUnpriced(market)
      ? null
      : toMicrodollarsWithin(market.usd).microdollars,
    source: base.source,
    version: nameVersion(base.version, factors, own).slice(0, 256),
    ...(doubts.length === 0 ? {} : { doubts }),
  };
}

/**
 * What the provider reports, else the list price. Of an answer that broke off the report is a lower
 * bound; one that no ledger takes is none.
 */
function priceAtMarket(
  reading: PricedReading,
  context: PriceContext,
  subject: PriceSubject,
  multipliers: readonly Factor[],
): BasePrice | Unpriced {
  const usd = reportedUsd(reading);
  const isTooMuch = usd !== null && toMicrodollarsWithin(usd).isCut;
  const reported: BasePrice | null =
    usd === null || isTooMuch
      ? null
      : { usd, source: 'upstream', version: context.upstreamHost ?? '', doubts: [] };
  if (reported !== null && reading.complete !== false) return reported;
  const list = priceAtList(reading, context, subject, multipliers);
  if (isUnpriced(list)) {
    return reported ?? (isTooMuch ? { unpriced: true, reason: 'out_of_range' } : list);
  }
  if (reported !== null && !isMore(list.usd, reported.usd)) return reported;
  return isTooMuch ? { ...list, doubts: [...list.doubts, 'reported_cost'] } : list;
}

function priceAtList(
  reading: PricedReading,
  context: PriceContext,
  { models, named }: PriceSubject,
  multipliers: readonly Factor[],
): BasePrice | Unpriced {
  if (models.length === 0) return { unpriced: true, reason: 'no_model' };
  const modifiers = modifiersOf(named).filter((each) => !nameModifier(multipliers, each));
  let unpriced: Unpriced = { unpriced: true, reason: 'unknown_model' };
  for (const model of models) {
    const list = findList(model, context);
    if (list === null) continue;
    const { prices, unknown } = applyModifiers(list, modifiers, context.at);
    const price = priceUsage(toBilled(reading, prices), prices);
    if (price === null) {
      unpriced = { unpriced: true, reason: 'incomplete_price' };
      continue;
    }
    const all = addOtherModels(price, reading, (other, tool) => {
      const others = findList(other, context);
      // Tools are not served in tiers.
      return others && applyModifiers(others, tool === null ? modifiers : [], context.at).prices;
    });
    if (all === null) return { unpriced: true, reason: 'unknown_model' };
    const doubts = [...unknown, ...all.unpriced];
    return { usd: all.usd, source: 'genai-prices', version: list.version, doubts };
  }
  return unpriced;
}

/** Null where the operator has no price for the model that answered. */
function priceAtOwn(
  reading: PricedReading,
  context: PriceContext,
  subject: PriceSubject,
  own: OwnPrices,
): BasePrice | null {
  const prices = findOwnPrice(own, subject);
  if (prices === null) return null;
  const list = subject.models.map((each) => findList(each, context)).find((each) => each !== null);
  const withTools = { ...toolPricesOf(list, context), ...withPreviews(prices) };
  const base = priceUsage(toBilled(reading, withTools), withTools);
  if (base === null) return null;
  const all = addOtherModels(
    base,
    reading,
    (model) =>
      findOwnPrice(own, { ...subject, models: [model] }) ??
      findList(model, context)?.prices ??
      null,
  );
  return all && { usd: all.usd, source: 'own', version: own.version, doubts: all.unpriced };
}

/** Tools that the operator has no price for are the provider's to price. */
function toolPricesOf(list: ListPrice | null | undefined, { format }: PriceContext): ModelPrice {
  const maker = format === 'anthropic-messages' ? 'anthropic' : 'openai';
  const all = list?.prices ?? withToolPrices(maker, '', {});
  const isTool = ([key]: [string, unknown]) => key.endsWith('_kcount') && key !== 'requests_kcount';
  return Object.fromEntries(Object.entries(all).filter(isTool));
}

function findList(model: string, { format, at, upstreamHost = null }: PriceContext) {
  return findListPrice({ model, format, upstreamHost, at });
}

function applyFactors(usd: Decimal, factors: readonly Factor[]): Decimal {
  return factors.reduce((product, { factor }) => multiply(product, exact(factor)), usd);
}

function exact(factor: string | number): Decimal {
  return parseDecimal(factor) ?? ZERO;
}

/** `0.1.8 openai/gpt-5 x1.05 (own 3f2a9c01b7de)`. */
function nameVersion(version: string, factors: readonly Factor[], own: OwnPrices | null): string {
  if (factors.length === 0 || own === null) return version;
  const factor = formatDecimal(applyFactors({ units: 1n, scale: 0 }, factors));
  return `${version} x${factor} (own ${own.version})`.trim();
}
