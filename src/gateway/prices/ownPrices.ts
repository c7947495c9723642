import { createHash } from 'node:crypto';
import { z } from 'zod';
import { LedgerError } from '../../errors.js';
import { parseDecimal } from './decimal.js';
import { type ModelPrice, PRICE_KEYS } from './modelPrice.js';

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
const scope = {
  /** `*` at the end matches any rest. */
  model: z.string().min(1).max(512).default('*'),
  organization_id: z
    .guid()
    .nullish()
    .transform((id) => id?.toLowerCase() ?? null),
  service_tier: z.string().min(1).nullish(),
  /** Inclusive. */
  from: instant.nullish(),
  /** Exclusive. */
  until: instant.nullish(),
};
const priceEntry = z.strictObject({
  ...scope,
  price: z
    .partialRecord(z.enum(PRICE_KEYS), unitPrice)
    .refine((price) => price.input_mtok !== undefined && price.output_mtok !== undefined, {
      error: 'needs input_mtok and output_mtok',
    }),
});
const multiplierEntry = z.strictObject({ ...scope, factor: decimal });
const ownPricesFile = z.strictObject({
  version: z.string().min(1).max(64).optional(),
  prices: z.array(priceEntry).max(10_000).default([]),
  multipliers: z.array(multiplierEntry).max(10_000).default([]),
});

/** Before every instant that a date can hold. */
const EARLIEST_MS = -8.64e15;

type Scope = Pick<z.output<typeof priceEntry>, 'model' | 'organization_id' | 'service_tier'> & {
  from?: number | null | undefined;
  until?: number | null | undefined;
};

/** The operator's own prices, as the file says them. */
export interface OwnPrices {
  version: string;
  prices: readonly (Scope & { price: ModelPrice })[];
  multipliers: readonly (Scope & { factor: string | number })[];
}

/** To whom and when a price applies. */
export interface PriceSubject {
  /** As requested, and as answered. */
  models: readonly string[];
  organizationId: string | null;
  serviceTier: string | null;
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

/** Every multiplier that applies; they multiply each other. */
export function findMultipliers(own: OwnPrices, subject: PriceSubject): (string | number)[] {
  return own.multipliers.filter((entry) => applies(entry, subject)).map((entry) => entry.factor);
}

function applies(entry: Scope, subject: PriceSubject): boolean {
  const at = subject.at.getTime();
  if (entry.organization_id !== null && entry.organization_id !== subject.organizationId) {
    return false;
  }
  if (entry.service_tier != null && entry.service_tier !== subject.serviceTier) return false;
  if ((entry.from ?? at) > at || (entry.until ?? Number.POSITIVE_INFINITY) <= at) return false;
  return subject.models.some((model) => matches(entry.model, model));
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
    entry.service_tier == null ? 0 : 1,
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
