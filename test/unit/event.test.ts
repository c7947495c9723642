import { describe, expect, it } from 'vitest';
import { LedgerError } from '../../src/errors.js';
import {
  EARLIEST_MS,
  EVENT_FIELDS,
  MAX_AHEAD_MS,
  MAX_COST,
  METADATA_FIELDS,
  validateEvent,
} from '../../src/record/event.js';
import type { UsageEvent } from '../../src/record/types.js';

const NOW_MS = Date.UTC(2025, 4, 6);
const UUID = '0190163D-8694-739B-AEA5-966C26F8AD91';
const base = { kilo_user_id: 'u', cost: 1 };

const validate = (event: unknown, cleaning = { nulBytesRemoved: 0 }) =>
  validateEvent(event as UsageEvent, cleaning, NOW_MS);

function refusal(event: unknown): { code: string; field: unknown } {
  try {
    validate(event);
  } catch (error) {
    if (error instanceof LedgerError) return { code: error.code, field: error.details.field };
    throw error;
  }
  throw new Error('the event was accepted');
}

describe('a valid event', () => {
  it('has every field, with its default', () => {
    const event = validate(base);
    expect(event).toMatchObject({
      kilo_user_id: 'u',
      organization_id: null,
      cost: 1,
      input_tokens: 0,
      output_tokens: 0,
      cache_write_tokens: 0,
      cache_hit_tokens: 0,
      provider: null,
      cache_discount: null,
      has_error: false,
      created_at: null,
      metadata: null,
      lookups: {},
    });
    expect(event.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
  });

  it('treats null as absent, for every field but the required ones', () => {
    const nulls = Object.fromEntries(EVENT_FIELDS.map((field) => [field, null]));
    const { id: _, ...event } = validate({ ...nulls, ...base });
    const { id: __, ...plain } = validate(base);
    expect(event).toEqual(plain);
  });

  it('makes ids in the order of time', () => {
    const ids = Array.from({ length: 100 }, () => validate(base).id);
    expect(ids.toSorted()).toEqual(ids);
  });

  it('has its UUIDs in lower case', () => {
    const event = validate({ ...base, id: UUID, organization_id: UUID });
    expect([event.id, event.organization_id]).toEqual([UUID.toLowerCase(), UUID.toLowerCase()]);
  });

  it('keeps metadata columns and lookups apart', () => {
    const event = validate({
      ...base,
      metadata: { latency: 1.5, editor_name: 'e', is_free: false, message_id: null, mode: null },
    });
    expect(event.metadata).toEqual({ latency: 1.5, is_free: false });
    expect(event.lookups).toEqual({ editor_name: 'e' });
    expect(validate({ ...base, metadata: {} }).metadata).toEqual({});
  });

  it('accepts negative zero as zero, and a million dollars either way', () => {
    expect(Object.is(validate({ ...base, cost: -0 }).cost, 0)).toBe(true);
    for (const cost of [MAX_COST, -MAX_COST]) {
      expect(validate({ ...base, cost }).cost).toBe(cost);
    }
  });

  it('may lie five minutes ahead, and in the past down to 2015', () => {
    for (const ms of [NOW_MS + MAX_AHEAD_MS, EARLIEST_MS]) {
      const created_at = new Date(ms);
      expect(validate({ ...base, created_at }).created_at).toMatch(/^\d{4}-.*\.\d{6}Z$/);
    }
    const atOnce = validate({ ...base, created_at: '2015-01-01T05:30:00+05:30' });
    expect(atOnce.created_at).toBe('2015-01-01T00:00:00.000000Z');
  });

  it('has lone surrogates replaced: PostgreSQL would refuse them', () => {
    const event = validate({ ...base, model: 'a\ud800b', metadata: { editor_name: '\udc00' } });
    expect(event.model).toBe('a\ufffdb');
    expect(event.lookups.editor_name).toBe('\ufffd');
  });
});

describe('NUL bytes', () => {
  it('are removed from every text field and counted', () => {
    const cleaning = { nulBytesRemoved: 0 };
    const event = validate(
      {
        ...base,
        kilo_user_id: '\0u\0',
        provider: 'p\0',
        metadata: { user_prompt_prefix: '\0\0', http_ip: 'i\0' },
      },
      cleaning,
    );
    expect(event).toMatchObject({ kilo_user_id: 'u', provider: 'p' });
    expect(event.metadata).toEqual({ user_prompt_prefix: '' });
    expect(event.lookups).toEqual({ http_ip: 'i' });
    expect(cleaning.nulBytesRemoved).toBe(6);
  });

  it('do not count for a length', () => {
    expect(validate({ ...base, model: `${'m'.repeat(512)}\0` }).model).toHaveLength(512);
  });
});

it('takes details whose text has a backslash before what would be an escape', () => {
  const usage_details = { doubts: ['C:\\ud800', '\\u0000', '\\\\uDFFF'], '\\ud83d': 1 };
  const { metadata } = validate({ ...base, metadata: { usage_details } });
  expect(JSON.parse(String(metadata?.usage_details))).toEqual(usage_details);
});

describe('what is refused, with the name of the field', () => {
  const change = (fields: object) => ({ ...base, ...fields });
  const details = (usage_details: object) => ({ metadata: { usage_details } });
  it.each<[name: string, field: string, event: unknown]>([
    ['nothing', 'event', undefined],
    ['null', 'event', null],
    ['an array', 'event', [base]],
    ['text', 'event', 'x'],
    ['no user', 'kilo_user_id', { cost: 1 }],
    ['an empty user', 'kilo_user_id', change({ kilo_user_id: '' })],
    ['a user of NUL bytes alone', 'kilo_user_id', change({ kilo_user_id: '\0' })],
    ['a long user', 'kilo_user_id', change({ kilo_user_id: 'u'.repeat(257) })],
    ['a user that is no text', 'kilo_user_id', change({ kilo_user_id: 7 })],
    ['no cost', 'cost', { kilo_user_id: 'u' }],
    ['a fractional cost', 'cost', change({ cost: 0.1 })],
    ['NaN', 'cost', change({ cost: Number.NaN })],
    ['infinity', 'cost', change({ cost: Number.POSITIVE_INFINITY })],
    ['a cost past a million dollars', 'cost', change({ cost: MAX_COST + 1 })],
    ['a refund past a million dollars', 'cost', change({ cost: -MAX_COST - 1 })],
    ['an unsafe cost', 'cost', change({ cost: 2 ** 53 })],
    ['a cost as text', 'cost', change({ cost: '1' })],
    ['a cost as bigint', 'cost', change({ cost: 1n })],
    ['negative tokens', 'input_tokens', change({ input_tokens: -1 })],
    ['fractional tokens', 'cache_hit_tokens', change({ cache_hit_tokens: 1.5 })],
    ['an id that is no UUID', 'id', change({ id: 'x' })],
    ['an id with braces', 'id', change({ id: `{${UUID}}` })],
    ['an id without hyphens', 'id', change({ id: UUID.replaceAll('-', '') })],
    ['an empty organization', 'organization_id', change({ organization_id: '' })],
    ['a flag as text', 'has_error', change({ has_error: 'true' })],
    ['a long model', 'model', change({ model: 'm'.repeat(513) })],
    ['a time without offset', 'created_at', change({ created_at: '2025-05-06T00:00:00' })],
    ['a time as number', 'created_at', change({ created_at: 1 })],
    ['a time too far ahead', 'created_at', change({ created_at: new Date(NOW_MS + 300_001) })],
    ['a time before 2015', 'created_at', change({ created_at: '2014-12-31T23:59:59.999999Z' })],
    ['a time long before', 'created_at', change({ created_at: new Date(-60_000_000_000_000) })],
    ['more tags than sixteen', 'tags', change({ tags: Array(17).fill('t') })],
    ['a long tag', 'tags.1', change({ tags: ['t', 't'.repeat(65)] })],
    ['an empty tag', 'tags.0', change({ tags: [''] })],
    ['a tag that is no text', 'tags.0', change({ tags: [1] })],
    ['tags as text', 'tags', change({ tags: 't' })],
    ['a long session', 'session_id', change({ session_id: 's'.repeat(257) })],
    ['a long user of the application', 'end_user', change({ end_user: 'e'.repeat(257) })],
    ['a key that is no UUID', 'api_key_id', change({ api_key_id: 'md_x' })],
    ['a position of its own', 'position', change({ position: 1 })],
    ['an unknown field', 'kilo_user', change({ kilo_user: 'u' })],
    ['a field of Object', 'constructor', change({ constructor: 1 })],
    ['a field named __proto__', '__proto__', JSON.parse('{"__proto__":1,"cost":1}')],
    ['metadata as text', 'metadata', change({ metadata: 'x' })],
    ['metadata as array', 'metadata', change({ metadata: [] })],
    ['an unknown metadata field', 'metadata.x', change({ metadata: { x: 1 } })],
    ['metadata toString', 'metadata.toString', change({ metadata: { toString: 'x' } })],
    ['a lookup that is no text', 'metadata.mode', change({ metadata: { mode: 1 } })],
    ['a long lookup', 'metadata.http_ip', change({ metadata: { http_ip: 'i'.repeat(513) } })],
    ['a latency that is infinite', 'metadata.latency', change({ metadata: { latency: 1 / 0 } })],
    ['a large status', 'metadata.status_code', change({ metadata: { status_code: 2 ** 31 } })],
    ['a name with NUL', 'metadata.usage_details', change(details({ '\\\0': 1 }))],
    ['half a pair as a name', 'metadata.usage_details', change(details({ '\\\\\ud83d': 1 }))],
    ['a stored lookup id', 'metadata.mode_id', change({ metadata: { mode_id: 1 } })],
    ['the id of metadata', 'metadata.id', change({ metadata: { id: UUID } })],
  ])('%s', (_, field, event) => {
    expect(refusal(event)).toEqual({ code: 'invalid_event', field });
  });

  it('names the unit of a cost that is no whole number', () => {
    expect(() => validate(change({ cost: 0.1 }))).toThrow('of microdollars (1 USD = 1,000,000)');
  });

  it('names no more than a bounded part of an unknown field', () => {
    expect(String(refusal(change({ ['x'.repeat(5000)]: 1 })).field)).toHaveLength(100);
  });
});

describe('the lists of fields', () => {
  it('are the columns of the tables', async () => {
    const { getTableColumns } = await import('drizzle-orm');
    const { microdollarUsage, microdollarUsageMetadata } = await import(
      '../../src/schema/index.js'
    );
    // Where a row stands in the log is the ledger's to say.
    const core = Object.keys(getTableColumns(microdollarUsage)).filter((it) => it !== 'position');
    const alsoMetadata = ['end_user', 'session_id', 'tags'];
    expect(EVENT_FIELDS.toSorted()).toEqual([...core, ...alsoMetadata, 'metadata'].toSorted());
    expect(METADATA_FIELDS).toEqual(expect.arrayContaining(alsoMetadata));
    const derived = ['id', 'kilo_user_id', 'created_at', 'lookup_values'];
    const columns = Object.keys(getTableColumns(microdollarUsageMetadata));
    const stored = METADATA_FIELDS.map((field) =>
      columns.includes(`${field}_id`) ? `${field}_id` : field,
    );
    expect([...stored, ...derived].toSorted()).toEqual(columns.toSorted());
  });
});
