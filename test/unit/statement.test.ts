import { describe, expect, it } from 'vitest';
import { plainArray, textArray } from '../../src/db/statement.js';
import { appendUsageStatement } from '../../src/record/appendUsage.sql.js';
import { validateEvent } from '../../src/record/event.js';
import { toMetadataRow } from '../../src/record/metadataRow.js';
import { recordBatchStatement } from '../../src/record/recordBatch.sql.js';
import { recordUsageStatement } from '../../src/record/recordUsage.sql.js';

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

describe('write statements', () => {
  const one = () => [event({ model: 'm' }), event({ organization_id: ORGANIZATION })] as const;

  it('have one text and name per variant, whatever the values: prepared once', () => {
    const [personal, organization] = one();
    const variants = [
      [recordUsageStatement(personal, null, true), recordUsageStatement(organization, null, false)],
      [
        recordUsageStatement(personal, METADATA, true),
        recordUsageStatement(organization, METADATA, false),
      ],
      [
        recordBatchStatement([personal], [null], true),
        recordBatchStatement([personal, organization], [null, null], false),
      ],
      [
        recordBatchStatement([personal], [METADATA], true),
        recordBatchStatement([personal, organization], [null, METADATA], false),
      ],
      [appendUsageStatement(personal, null), appendUsageStatement(event(), null)],
      [appendUsageStatement(organization, METADATA), appendUsageStatement(one()[1], METADATA)],
    ];
    for (const [first, second] of variants) {
      expect([first?.name, first?.text]).toEqual([second?.name, second?.text]);
    }
    const names = variants.map(([first]) => first?.name ?? '');
    expect(new Set(names).size).toBe(names.length);
    // PostgreSQL cuts longer names, and two could become one.
    for (const name of names) expect(name.length).toBeLessThan(63);
  });

  it('carry a label, and as many values as parameters', () => {
    const [personal, organization] = one();
    for (const { text, values } of [
      recordUsageStatement(personal, null, true),
      recordUsageStatement(personal, METADATA, true),
      recordBatchStatement([personal, organization], [null, null], true),
      recordBatchStatement([personal, organization], [null, METADATA], true),
      appendUsageStatement(personal, null),
      appendUsageStatement(personal, METADATA),
      appendUsageStatement(organization, null),
      appendUsageStatement(organization, METADATA),
    ]) {
      expect(text).toMatch(/^\/\* microdollar\.\w+ \*\/\n/);
      const parameters = new Set(text.match(/\$\d+/g));
      expect(parameters.size).toBe(values.length);
    }
  });
});
