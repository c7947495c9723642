import type { IncomingHttpHeaders } from 'node:http';
import { v5 as uuidv5 } from 'uuid';
import { z } from 'zod';
import { LedgerError } from '../errors.js';
import { parseInstant } from '../instant.js';
import { invalid } from '../record/event.js';
import { instant, parseInput } from './validation.js';

/** The one type that is taken. */
export const CLOUD_EVENT_TYPE = 'microdollar.usage';
export const CLOUD_EVENT = 'application/cloudevents+json';
export const CLOUD_EVENT_BATCH = 'application/cloudevents-batch+json';

/** Part of the interface: a producer may compute the ids of its events. Never changes. */
export const CLOUD_EVENT_NAMESPACE = '5b0cfa3e-6f0f-5d0f-9a55-2a6c1f0b7c41';

const text = z.string().min(1, 'must not be empty');

/** CloudEvents 1.0; other attributes are extensions, and fine. */
export const cloudEvent = z.looseObject({
  specversion: z.literal('1.0', 'must be 1.0'),
  id: text.describe('With `source` the idempotency key: the event’s id is made of both.'),
  source: text
    .regex(/^\S+$/, 'must be a URI reference, without spaces')
    .meta({ format: 'uri-reference', description: 'Who says it.' }),
  type: z.literal(CLOUD_EVENT_TYPE, `must be ${CLOUD_EVENT_TYPE}`),
  subject: text.optional().describe('The user: `kilo_user_id`.'),
  time: instant.optional().describe('`created_at`. Default: now.'),
  datacontenttype: z
    .string()
    .regex(/^application\/json\b/i, 'must be application/json')
    .optional(),
  data: z.record(z.string(), z.unknown(), 'must be an object').meta({
    $ref: '#/components/schemas/CloudEventData',
    description: 'The other fields of a usage event.',
  }),
});

/** A usage event, or why a CloudEvent is none. */
export type ReadEvent = Record<string, unknown> | LedgerError;

/** What is wrong is `invalid_event`, and names the attribute. */
export function toUsageEvent(value: unknown): ReadEvent {
  try {
    const { id, source, subject, time, data } = parseInput(cloudEvent, value);
    if (data.id != null) throw invalid('data.id', 'is made of source and id; leave it out');
    const createdAt = oneOf('time', time, 'created_at', data, (each) => parseInstant(each)?.text);
    const user = oneOf('subject', subject, 'kilo_user_id', data);
    if (user == null) throw invalid('subject', 'is required: the user');
    return {
      ...data,
      id: idOf(source, id),
      kilo_user_id: user,
      ...(createdAt == null ? {} : { created_at: createdAt }),
    };
  } catch (error) {
    if (!(error instanceof LedgerError)) throw error;
    return new LedgerError('invalid_event', error.message, { details: { ...error.details } });
  }
}

/** The event's id: UUID version 5 (RFC 9562) of `source`, a space and `id`. */
export function idOf(source: string, id: string): string {
  return uuidv5(`${source} ${id}`, CLOUD_EVENT_NAMESPACE);
}

/** In an attribute or in the data; where in both, alike. */
function oneOf(
  attribute: string,
  value: string | undefined,
  field: string,
  data: Record<string, unknown>,
  meaning: (value: unknown) => unknown = (each) => each,
): unknown {
  const other = data[field];
  if (value === undefined || other == null) return value ?? other;
  if (meaning(value) === meaning(other)) return value;
  throw invalid(attribute, `differs from data.${field}: give one of them`);
}

/** Binary mode: attributes in `ce-*` headers, the body is the data. Null: no CloudEvent. */
export function readBinary(headers: IncomingHttpHeaders, body: unknown): ReadEvent | null {
  if (headers['ce-specversion'] === undefined) return null;
  const attributes: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (!name.startsWith('ce-')) continue;
    try {
      attributes[name.slice(3)] = decodeURIComponent(String(value));
    } catch {
      return invalid(name.slice(3), `is not percent-encoded text in the header ${name}`);
    }
  }
  return toUsageEvent({ ...attributes, data: body });
}
