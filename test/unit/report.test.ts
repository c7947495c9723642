import { describe, expect, it } from 'vitest';
import { readDay } from '../../src/days.js';
import { LedgerError } from '../../src/errors.js';
import { dailyUsageStatement, threeMonthTotalStatement } from '../../src/report/report.sql.js';

const SOURCES = ['raw', 'rollup'] as const;
const range = { kiloUserId: 'u', from: '2025-01-01', until: '2025-01-31' };
const ORGANIZATION = '00000000-0000-4000-8000-00000000000a';

describe('report statements', () => {
  it.each(SOURCES)('from %s carry the label of the read', (source) => {
    expect(threeMonthTotalStatement(source, 'u', null).text).toMatch(
      /^\/\* kiloPass\.getAverageMonthlyUsageLast3Months \*\//,
    );
    const daily = dailyUsageStatement(source, { ...range, organizationId: null });
    expect(daily.text).toMatch(/^\/\* usage\.daily \*\//);
  });

  it('have a name for each text, and use every parameter', () => {
    const statements = SOURCES.flatMap((source) => [
      threeMonthTotalStatement(source, 'u', null),
      dailyUsageStatement(source, { ...range, organizationId: null }),
      dailyUsageStatement(source, { ...range, organizationId: ORGANIZATION }),
    ]);
    expect(new Set(statements.map(({ name }) => name)).size).toBe(statements.length);
    for (const { text, values } of statements) {
      expect(new Set(text.match(/\$\d+/g)).size).toBe(values.length);
    }
  });

  it('of the rollup read of raw usage what is unsettled, and nothing else', () => {
    const texts = [
      threeMonthTotalStatement('rollup', 'u', null).text,
      dailyUsageStatement('rollup', { ...range, organizationId: null }).text,
      dailyUsageStatement('rollup', { ...range, organizationId: ORGANIZATION }).text,
    ];
    for (const text of texts) {
      const reads = text.split(/from microdollar_usage\b(?!_)/).slice(1);
      expect(reads).toHaveLength(2);
      for (const read of reads) expect(read).toMatch(/^ as m\s+where [^;]*m\.position is not null/);
    }
  });

  it('ask for a scope in the form that a partial index serves', () => {
    const personal = dailyUsageStatement('rollup', { ...range, organizationId: null });
    expect(personal.text).toContain('organization_id is null');
    const organization = dailyUsageStatement('rollup', { ...range, organizationId: ORGANIZATION });
    expect(organization.text).toContain('organization_id = $4::uuid');
  });
});

describe('readDay', () => {
  it.each(['2025-01-31', '2024-02-29', '0001-01-01', '9999-12-31'])('takes %s', (day) => {
    expect(readDay('from', day)).toBe(day);
  });

  it.each(['2025-02-29', '2025-1-1', '2025-01-01 ', '20250101', '0000-01-01', '', 'today'])(
    'refuses %j and names the field',
    (day) => {
      try {
        readDay('from', day);
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(LedgerError);
        expect(error).toMatchObject({ code: 'invalid_request', details: { field: 'from' } });
      }
    },
  );
});
