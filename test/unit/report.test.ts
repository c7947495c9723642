import { describe, expect, it } from 'vitest';
import { readDay } from '../../src/days.js';
import type { Statement } from '../../src/db/statement.js';
import { LedgerError } from '../../src/errors.js';
import type { UsageReport } from '../../src/ledgerTypes.js';
import { createMetrics } from '../../src/metrics.js';
import { dailyUsageStatement, threeMonthTotalStatement } from '../../src/report/report.sql.js';
import { formOf, MAX_COUNTED } from '../../src/report/usage/groups.sql.js';
import { readReportQuery } from '../../src/report/usage/query.js';
import { toCsv } from '../../src/report/usage/reportCsv.js';
import { UsageReports } from '../../src/report/usage/usageReport.js';
import { type ReportedRow, usageReportStatement } from '../../src/report/usage/usageReport.sql.js';

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

describe('reports by period and dimension', () => {
  const GROUPS = ['model', 'provider', 'key', 'project'] as const;
  const BYS = GROUPS.flatMap((one) => [
    [one],
    ...GROUPS.filter((two) => two !== one).map((two) => [one, two]),
  ]);

  it('are prepared by name up to a number of forms, and use every parameter', () => {
    const names = new Set<string>();
    let forms = 0;
    for (const by of BYS) {
      for (const metric of ['cost', 'requests', 'tokens'] as const) {
        for (const grain of ['hour', 'day', 'month'] as const) {
          for (const zone of ['UTC', 'Asia/Kolkata']) {
            const query = readReportQuery({
              kilo_user_id: 'u',
              from: '2026-11-01',
              until: '2026-11-02',
              by,
              metric,
              grain,
              zone,
            });
            const { name, text, values } = usageReportStatement(query, 'quarters', formOf(query));
            expect(new Set(text.match(/\$\d+/g)).size).toBe(values.length);
            names.add(name);
            forms++;
          }
        }
      }
    }
    expect(forms).toBe(288);
    names.delete('');
    expect(names.size).toBeLessThanOrEqual(200);
  });
});

describe('a report whose rows the client sums', () => {
  const answer = (list: string, counted: number): ReportedRow[] => [
    {
      is_proven: true,
      as_of: '2026-11-22T10:00:00Z',
      is_replica: false,
      changes: null,
      offsets: null,
      ats: null,
      starts: null,
      is_previous: false,
      is_other: false,
      group_1: 'a',
      group_2: null,
      list,
      counted: String(counted),
    },
  ];
  const asked = {
    kilo_user_id: 'u',
    from: '2026-11-20',
    until: '2026-11-22',
    by: ['model'] as const,
  };
  const DAY = Date.parse('2026-11-20T00:00:00Z') / 1_000;
  const reportOf = (answers: ReportedRow[][]) => {
    const texts: string[] = [];
    const query = async <Row>({ text }: Statement) => {
      texts.push(text.split('\n')[0] ?? '');
      return (answers.shift() ?? []) as Row[];
    };
    const reports = new UsageReports(query, (work) => work(query), createMetrics());
    return { texts, read: () => reports.report(asked) };
  };

  it('adds them up, also past 2^53, and leaves out what was taken off again', async () => {
    const max = 2 ** 53 - 1;
    const list =
      `${DAY},5,1,0,${max},0,0,0,${DAY + 86_400},7,1,0,1,0,0,0,${DAY},-6,1,1,${max},2,3,4,
      ${DAY + 86_400},-7,-1,0,-1,0,0,0`.replaceAll(/\s/g, '');
    const { rows, total } = await reportOf([answer(list, 4)]).read();
    const sums = {
      cost_microdollars: -1,
      requests: 2,
      errors: 1,
      input_tokens: 2n * BigInt(max),
      output_tokens: 2,
      cache_hit_tokens: 3,
      cache_write_tokens: 4,
    };
    expect(rows).toEqual([{ start: '2026-11-20', model: 'a', ...sums }]);
    expect(total).toEqual(sums);
  });

  it('adds numbers that are each small, and together are not', async () => {
    const half = 2 ** 52;
    const list = `${DAY},1,1,0,${half},0,0,0,${DAY + 86_400},1,1,0,${half},0,0,0`;
    const { rows, total } = await reportOf([answer(list, 2)]).read();
    expect(rows.map(({ input_tokens }) => input_tokens)).toEqual([half, half]);
    expect(total.input_tokens).toBe(2n ** 53n);
  });

  it('of too many rows asks the server for sums, from then on of this payer at once', async () => {
    const cut = answer(`${DAY},1,1,0,0,0,0,0`, MAX_COUNTED + 1);
    const whole = answer(`${DAY},9,3,0,0,0,0,0`, 1);
    const { texts, read } = reportOf([cut, whole, whole]);
    expect((await read()).total.cost_microdollars).toBe(9);
    expect((await read()).total.cost_microdollars).toBe(9);
    expect(texts).toEqual([
      '/* usage.report days rows */',
      '/* usage.report days sums */',
      '/* usage.report days sums */',
    ]);
  });
});

describe('a report as CSV', () => {
  const sums = (cost: number | bigint) => ({
    cost_microdollars: cost,
    requests: 1,
    errors: 0,
    input_tokens: 3,
    output_tokens: 4,
    cache_hit_tokens: 0,
    cache_write_tokens: 0,
  });
  const report: UsageReport = {
    from: '2026-11-20',
    until: '2026-11-22',
    zone: 'UTC',
    grain: 'day',
    by: [],
    rows: [
      { start: '2026-11-20', ...sums(5) },
      { start: '2026-11-22', ...sums(2n ** 60n) },
    ],
    total: sums(2n ** 60n + 5n),
    source: { mode: 'rollup', server: 'primary', asOf: '2026-11-22T10:00:00Z' },
  };
  const previous = {
    from: '2026-11-17',
    until: '2026-11-19',
    rows: [
      { start: '2026-11-20', ...sums(7) },
      { start: '2026-11-21', ...sums(1) },
    ],
    total: sums(8),
  };
  const nothing = '0,0,0,0,0,0,0';

  it('has no columns of a period that was not asked for', () => {
    expect(toCsv(report).split('\n')).toEqual([
      'start,cost_microdollars,requests,errors,input_tokens,output_tokens,cache_hit_tokens,cache_write_tokens',
      '2026-11-20,5,1,0,3,4,0,0',
      '2026-11-22,1152921504606846976,1,0,3,4,0,0',
      'total,1152921504606846981,1,0,3,4,0,0',
      '',
    ]);
  });

  it('has the period before in columns of its own, a day beside its day', () => {
    const [header, ...lines] = toCsv({ ...report, previous })
      .trimEnd()
      .split('\n');
    expect(header).toContain('cache_write_tokens,previous_cost_microdollars,previous_requests');
    expect(lines).toEqual([
      '2026-11-20,5,1,0,3,4,0,0,7,1,0,3,4,0,0',
      `2026-11-21,${nothing},1,1,0,3,4,0,0`,
      `2026-11-22,1152921504606846976,1,0,3,4,0,0,${nothing}`,
      'total,1152921504606846981,1,0,3,4,0,0,8,1,0,3,4,0,0',
    ]);
  });

  it('has it in a line of its own beside groups, which it is not known by', () => {
    const rows = [
      { start: '2026-11-20', model: '=a', ...sums(3) },
      { start: '2026-11-20', other: true as const, ...sums(2) },
    ];
    const lines = toCsv({ ...report, by: ['model'], rows, previous })
      .trimEnd()
      .split('\n');
    expect(lines.slice(1, -1)).toEqual([
      `2026-11-20,'=a,,3,1,0,3,4,0,0,${nothing}`,
      `2026-11-20,,true,2,1,0,3,4,0,0,${nothing}`,
      `2026-11-20,,,${nothing},7,1,0,3,4,0,0`,
      `2026-11-21,,,${nothing},1,1,0,3,4,0,0`,
    ]);
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
