import { createHash } from 'node:crypto';
import { z } from 'zod';
import { LedgerError } from '../../errors.js';
import { parseDecimal } from './decimal.js';
import { type ModelPrice, TOKEN_PRICE_KEYS } from './modelPrice.js';
import type { Modifier, Named } from './modifiers.js';

const decimal = z
  .union([z.string(), z.number()])
  .refine((value) => (parseDecimal(value)?.units ?? -1n) >= 0n, 'must be a decimal, 0 or more');
const unitPrice = z.union([
  decimal,
  z.strictObject({
    base: decimal,
    tiers: z.array(z.strictObject({ start: z.int().min(0), price: decimal })).min(1),
  }),
]);
const instant = z
  .union(
    [z.iso.date(), z.iso.datetime({ offset: true })],
    'must be a UTC day or an ISO 8601 instant',
  )
  .transform((text) => Date.parse(text));
/** As the answer names it, in any case. */
const modifier = z
  .string()
  .min(1)
  .max(256)
  .nullish()
  .transform((name) => name?.toLowerCase() ?? null);
/** Any number of calls may have a price: tools come and go. */
const priceKey = z.union([
  z.enum([...TOKEN_PRICE_KEYS]),
  z.string().regex(/^[a-z][a-z0-9_]{0,62}_kcount$/),
]);
const scope = {
  /** `*` at the end matches any rest. */
  model: z.string().min(1).max(512).default('*'),
  organization_id: z
    .guid()
    .nullish()
    .transform((id) => id?.toLowerCase() ?? null),
  service_tier: modifier,
  speed: modifier,
  region: modifier,
  search_context: modifier,
  /** Of the provider's URL, without its port. */
  host: modifier,
  /** Inclusive. */
  from: instant.nullish(),
  /** Exclusive. */
  until: instant.nullish(),
};
const priceEntry = z.strictObject({
  ...scope,
  price: z
    .partialRecord(priceKey, unitPrice)
    .refine((price) => price.input_mtok !== undefined && price.output_mtok !== undefined, {
      error: 'needs input_mtok and output_mtok',
    }),
});
const factorEntry = z.strictObject({ ...scope, factor: decimal });
const ownPricesFile = z.strictObject({
  version: z.string().min(1).max(64).optional(),
  prices: z.array(priceEntry).max(10_000).default([]),
  multipliers: z.array(factorEntry).max(10_000).default([]),
  margins: z.array(factorEntry).max(10_000).default([]),
});

/** Before every instant that a date can hold. */
const EARLIEST_MS = -8.64e15;

type Scope = Pick<z.output<typeof priceEntry>, 'model' | 'organization_id' | ModifierField> & {
  from?: number | null | undefined;
  until?: number | null | undefined;
};
type ModifierField = Modifier['kind'];
const MODIFIER_FIELDS = ['service_tier', 'speed', 'region', 'search_context', 'host'] as const;

export type Factor = Scope & { factor: string | number };

/** The operator's own prices, as the file says them. */
export interface OwnPrices {
  version: string;
  prices: readonly (Scope & { price: ModelPrice })[];
  /** Correct prices that are computed, from the public list or from `prices`. */
  multipliers: readonly Factor[];
  /** What the operator asks on top of any cost, also of one that the provider reports. */
  margins: readonly Factor[];
}

/** To whom and when a price applies. */
export interface PriceSubject {
  /** As requested, and as answered. */
  models: readonly string[];
  organizationId: string | null;
  named: Named;
  at: Date;
}

/** @throws LedgerError `invalid_request` that names the field */
export function parseOwnPrices(text: string): OwnPrices {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new LedgerError('invalid_request', 'the prices file is not valid JSON');
  }
  const parsed = ownPricesFile.safeParse(json);
  if (!parsed.success) throw toError(parsed.error.issues);
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 12);
  return { ...parsed.data, version: parsed.data.version ?? digest };
}

/** The most telling match: the organization's own, then the longest model, then the latest. */
export function findOwnPrice(own: OwnPrices, subject: PriceSubject): ModelPrice | null {
  let best: (typeof own.prices)[number] | null = null;
  for (const entry of own.prices) {
    if (applies(entry, subject) && (best === null || !outranks(best, entry))) best = entry;
  }
  return best?.price ?? null;
}

/** Every factor that applies; they multiply each other. */
export function findFactors(factors: readonly Factor[], subject: PriceSubject): readonly Factor[] {
  return factors.filter((entry) => applies(entry, subject));
}

/** Whether one of them is said to be for this modifier, and so takes the place of what is known. */
export function nameModifier(factors: readonly Factor[], { kind, value }: Modifier): boolean {
  return factors.some((factor) => factor[kind] === value || isOldSpeed(factor, kind, value));
}

/** Files from before `speed` had a name of its own say `"service_tier": "fast"`. */
function isOldSpeed(entry: Scope, kind: ModifierField, value: string | null): boolean {
  return kind === 'speed' && value === 'fast' && entry.service_tier === 'fast';
}

function applies(entry: Scope, subject: PriceSubject): boolean {
  const at = subject.at.getTime();
  if (entry.organization_id !== null && entry.organization_id !== subject.organizationId) {
    return false;
  }
  if (!MODIFIER_FIELDS.every((kind) => appliesTo(entry, kind, subject))) return false;
  if ((entry.from ?? at) > at || (entry.until ?? Number.POSITIVE_INFINITY) <= at) return false;
  return subject.models.some((model) => matches(entry.model, model));
}

function appliesTo(entry: Scope, kind: ModifierField, { named }: PriceSubject): boolean {
  const wanted = entry[kind];
  if (wanted === null || wanted === named[kind]) return true;
  return kind === 'service_tier' && isOldSpeed(entry, 'speed', named.speed);
}

function matches(pattern: string, model: string): boolean {
  const wanted = pattern.toLowerCase();
  const name = model.toLowerCase();
  return wanted.endsWith('*') ? name.startsWith(wanted.slice(0, -1)) : name === wanted;
}

function outranks(one: Scope, other: Scope): boolean {
  const difference = rank(one)
    .map((value, index) => value - (rank(other)[index] ?? 0))
    .find((each) => each !== 0);
  return (difference ?? 0) > 0;
}

function rank(entry: Scope): number[] {
  return [
    entry.organization_id === null ? 0 : 1,
    entry.model.endsWith('*') ? 0 : 1,
    entry.model.length,
    MODIFIER_FIELDS.filter((kind) => entry[kind] !== null).length,
    entry.from ?? EARLIEST_MS,
  ];
}

function toError(issues: readonly z.core.$ZodIssue[]): LedgerError {
  const [first] = issues;
  const field = (first?.path ?? [])
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
  return new LedgerError(
    'invalid_request',
    `the prices file: ${field === '' ? 'the document' : field}: ${first?.message ?? 'is invalid'}`,
    { details: { field } },
  );
}
