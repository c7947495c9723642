import { describe, expect, it, vi } from 'vitest';
import { settleStatement } from '../../src/counter/settle.sql.js';
import { settleExaStatement } from '../../src/counter/settleExa.sql.js';
import { nameOfText, plainArray, type Statement, textArray } from '../../src/db/statement.js';
import { appendBatchStatement } from '../../src/record/appendBatch.sql.js';
import { appendUsageStatement } from '../../src/record/appendUsage.sql.js';
import { type ValidEvent, validateEvent } from '../../src/record/event.js';
import { recordInPlaceStatement } from '../../src/record/inPlace.sql.js';
import { type MetadataRow, toMetadataRow } from '../../src/record/metadataRow.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../src/schema/unsettled.js';

const ORGANIZATION = '00000000-0000-4000-8000-00000000000a';
const METADATA = toMetadataRow(
  validateEvent({ kilo_user_id: 'u', cost: 1, metadata: { latency: 1 } }, { nulBytesRemoved: 0 }),
  () => undefined,
);
const event = (more: object = {}) =>
  validateEvent({ kilo_user_id: 'u', cost: 1, ...more }, { nulBytesRemoved: 0 });

describe('array literals', () => {
  it.each<[(string | null)[], string]>([
    [[], '{}'],
    [[null, null], '{}'],
    [['a', null], '{"a",null}'],
    [['null', 'NULL'], '{"null","NULL"}'],
    [['', ' '], '{""," "}'],
    [['a"b', 'c\\d'], '{"a\\"b","c\\\\d"}'],
    [['{x,y}', "it's"], `{"{x,y}","it's"}`],
  ])('of text %j is %s', (values, literal) => {
    expect(textArray(values)).toBe(literal);
  });

  it('of plain values', () => {
    expect(plainArray([1, -2, null, true, '2025-01-01T00:00:00.000000Z'])).toBe(
      '{1,-2,null,true,2025-01-01T00:00:00.000000Z}',
    );
    expect(plainArray([])).toBe('{}');
  });
});

/** Every form of a write: what is not needed is not in its text. */
type Form = (event: ValidEvent, metadata: MetadataRow | null) => Statement;
const FORMS: Record<string, Form> = {
  append: (each, metadata) => appendUsageStatement(each, { metadata, isKnown: false }),
  'append, payer known': (each, metadata) =>
    appendUsageStatement(each, { metadata, isKnown: true }),
  'append, wait bounded': (each, metadata) =>
    appendUsageStatement(each, { metadata, isKnown: false, boundsWaitMs: 25 }),
  'in place': recordInPlaceStatement,
  batch: (each, metadata) => appendBatchStatement([event(), each], [null, metadata], false),
  'batch, wait bounded': (each, metadata) =>
    appendBatchStatement([each, event()], [metadata, null], false, 25),
  'batch, payers known': (each, metadata) =>
    appendBatchStatement([each, event()], [metadata, null], true),
};
const EVENTS = {
  personal: (more: object = {}) => event(more),
  "an organization's": (more: object = {}) => event({ organization_id: ORGANIZATION, ...more }),
} as const;
const TIMES = [{}, { created_at: '2025-05-06T07:08:09Z' }] as const;

const VARIANTS = Object.entries(FORMS).flatMap(([form, make]) =>
  Object.entries(EVENTS).flatMap(([payer, of]) =>
    TIMES.flatMap((time) =>
      [null, METADATA].map((metadata) => ({
        variant: [form, payer, 'created_at' in time ? 'at' : 'now', metadata ? 'metadata' : ''],
        first: make(of(time), metadata),
        other: make(of({ ...time, model: 'm', cost: -5, kilo_user_id: 'v' }), metadata),
      })),
    ),
  ),
);

it('a statement whose text follows from the columns of tables has a name for each text', () => {
  expect(nameOfText('select a, b')).toBe(nameOfText('select a, b'));
  expect(nameOfText('select a, b')).not.toBe(nameOfText('select a, c'));
  expect(nameOfText('select a, b'.repeat(100)).length).toBeLessThanOrEqual(63);
});

describe('write statements', () => {
  it('have one text and name per variant, whatever the values: prepared once', () => {
    const textOf = new Map<string, string>();
    for (const { variant, first, other } of VARIANTS) {
      expect([first.name, first.text], variant.join(', ')).toEqual([other.name, other.text]);
      // PostgreSQL cuts longer names, and two could become one.
      expect(first.name.length).toBeLessThan(63);
      expect(textOf.get(first.name) ?? first.text, first.name).toBe(first.text);
      textOf.set(first.name, first.text);
    }
    expect(new Set(textOf.values()).size).toBe(textOf.size);
  });

  it.each(VARIANTS)('carry a label, and as many values as parameters: $variant', ({ first }) => {
    expect(first.text).toMatch(/^\/\* microdollar\.\w+ \*\/\n/);
    const parameters = new Set(first.text.match(/\$\d+/g));
    expect([...parameters].toSorted()).toEqual(
      first.values.map((_, place) => `$${place + 1}`).toSorted(),
    );
  });

  it('name the columns of metadata that were ever used, and those alone', async () => {
    // As in a new process: other tests of this one have used more.
    vi.resetModules();
    const { appendUsageStatement } = await import('../../src/record/appendUsage.sql.js');
    const { toMetadataRow } = await import('../../src/record/metadataRow.js');
    const of = (metadata: object) => {
      const each = event({ metadata });
      const row = toMetadataRow(each, () => undefined);
      return appendUsageStatement(each, { metadata: row, isKnown: true });
    };
    const before = of({ feature: 'chat' });
    expect(before.text).not.toContain('machine_id');
    const grown = of({ machine_id: 'm' });
    expect(grown.text).toContain('machine_id');
    expect(grown.name).not.toBe(before.name);
    expect(of({ feature: 'chat' }).text).toBe(grown.text);
  });

  it('leave out what they do not need', () => {
    const known = appendUsageStatement(event(), { metadata: null, isKnown: true }).text;
    expect(known).not.toMatch(/kilocode_users|ledger_settings|metadata|lock_timeout|\bwith\b/);
    const at = { created_at: '2025-05-06T07:08:09Z' };
    const dated = appendUsageStatement(event(at), { metadata: null, isKnown: true }).text;
    expect(dated).toContain('archive_horizon');
    const batch = appendBatchStatement([event()], [null], true).text;
    expect(batch).not.toMatch(/kilocode_users|ledger_settings|metadata/);
  });

  it('insert the ids of a batch in their order (R11)', () => {
    const joined = appendBatchStatement([event()], [null], false);
    expect(joined.text).toMatch(/order by e\.id\s+on conflict \(id\) do nothing/);
    const ids = ['b', 'a', 'c'].map((digit) => `${digit}0000000-0000-4000-8000-000000000000`);
    const events = ids.map((id, index) => event({ id, cost: index }));
    const { values } = appendBatchStatement(events, [null, METADATA, null], true);
    expect(values[0]).toBe(`{${ids.toSorted().join(',')}}`);
    expect(values[8]).toBe('{1,0,2}');
    expect(values).toContain('{true,false,false}');
  });
});

describe('statements of a fold', () => {
  it('lock nothing that they would wait for, and never name a row by its place (R8, R13)', () => {
    const limits = { youngXids: 64, rowsPerPayer: null };
    for (const { text } of [USER_SCOPE, ORGANIZATION_SCOPE].flatMap((scope) => [
      settleStatement(scope, ['x'], [true], limits),
      settleExaStatement(scope, ['x'], limits),
    ])) {
      expect(text.match(/for no key update/g)).toHaveLength(2);
      expect(text.match(/for no key update of \w skip locked/g)).toHaveLength(2);
      expect(text).not.toMatch(/\bctid\b|on conflict|\bfor update\b/);
    }
  });
});
