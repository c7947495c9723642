import { z } from 'zod';
import { isDay } from '../days.js';
import { LedgerError } from '../errors.js';
import { isUuid } from '../ids.js';
import { parseInstant } from '../instant.js';

/** Days of one request for daily usage: three years. */
export const MAX_DAYS = 1_100;

/** @throws LedgerError `invalid_request` naming the first field that is wrong */
export function parseInput<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
): z.output<Schema> {
  const result = schema.safeParse(value, { error: describeType });
  if (result.success) return result.data;
  const { issues } = result.error;
  // A misspelled field before the one that is then missing.
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0];
  if (issue?.code === 'unrecognized_keys') {
    const field = String(issue.keys[0]).slice(0, 100);
    throw new LedgerError('invalid_request', `${field} is not a field${knownFields(schema)}`, {
      details: { field },
    });
  }
  const field = issue?.path.map(String).join('.') ?? '';
  const message = issue?.message ?? 'is not valid';
  throw new LedgerError('invalid_request', field === '' ? message : `${field}: ${message}`, {
    details: field === '' ? {} : { field },
  });
}

/**
 * A body that must be there: none at all says so, whatever the fields are.
 * @throws LedgerError `invalid_request`
 */
export function parseBody<Schema extends z.ZodType>(
  schema: Schema,
  body: unknown,
): z.output<Schema> {
  if (body === undefined) {
    throw new LedgerError('invalid_request', 'the body is empty; send a JSON object');
  }
  return parseInput(schema, body);
}

/** A parser for tRPC; its schema stays to be read by what documents it (src/server/openapi). */
export interface InputParser<Schema extends z.ZodType> {
  (value: unknown): z.output<Schema>;
  readonly schema: Schema;
  /** Nothing at all is taken for `{}`. */
  readonly isOptional: boolean;
}

export function inputOf<Schema extends z.ZodType>(schema: Schema): InputParser<Schema> {
  const isOptional = schema.safeParse(undefined).success;
  return Object.assign((value: unknown) => parseInput(schema, value), { schema, isOptional });
}

/** The same where nothing, or null, is the same as no fields. */
export function inputOrNothing<Schema extends z.ZodType>(schema: Schema): InputParser<Schema> {
  const isOptional = schema.safeParse({}).success;
  return Object.assign((value: unknown) => parseInput(schema, value ?? {}), { schema, isOptional });
}

/** Where the schema has no words of its own; undefined leaves it to Zod. */
function describeType({ code, input, expected }: z.core.$ZodRawIssue): string | undefined {
  if (code !== 'invalid_type' && code !== 'invalid_union') return undefined;
  if (input === undefined) return 'is required';
  if (code === 'invalid_union') return 'has a type that is not allowed here';
  // Of a query string too: a parameter that is repeated is a list.
  if (expected === 'string' && Array.isArray(input)) return 'must be a string, given once';
  return `must be ${/^[aeio]/.test(String(expected)) ? 'an' : 'a'} ${expected}`;
}

function knownFields(schema: z.ZodType): string {
  const object = schema instanceof z.ZodOptional ? schema.unwrap() : schema;
  return object instanceof z.ZodObject ? `; known: ${Object.keys(object.shape).join(', ')}` : '';
}

/** A UTC calendar day, YYYY-MM-DD, that exists. */
export const day = z
  .string()
  .refine(isDay, 'must be a UTC day like 2026-11-22')
  .meta({ format: 'date' });

export const instant = z
  .string()
  .refine((value) => parseInstant(value) !== null, {
    message: 'must be an ISO 8601 instant with an offset, like 2026-11-22T10:00:00Z',
  })
  .meta({ format: 'date-time' });

export const uuid = z
  .string()
  .refine(isUuid, 'must be a UUID')
  .meta({ format: 'uuid' })
  .transform((value) => value.toLowerCase());

/** Types alone, as documented: what a value may be is checked where it is stored. */
export const optionalText = z.string().nullish();
export const optionalUuid = optionalText.meta({ format: 'uuid' });
export const usd = z.union([z.string(), z.number()]);

/** Both inclusive. @throws LedgerError `invalid_request` */
export function checkDayRange(from: string, until: string): void {
  const days = (Date.parse(until) - Date.parse(from)) / 86_400_000 + 1;
  if (days < 1) {
    throw new LedgerError('invalid_request', 'from lies after until; swap them', {
      details: { field: 'from' },
    });
  }
  if (days > MAX_DAYS) {
    throw new LedgerError(
      'invalid_request',
      `from..until spans ${days} days; ask for at most ${MAX_DAYS} at a time`,
      { details: { field: 'until', limit_days: MAX_DAYS } },
    );
  }
}
