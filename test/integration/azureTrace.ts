import { expect, it } from 'vitest';
import { useCli } from './cliHarness.js';

const SPREAD = ['--format', 'azure-llm', '--users', '50', '--orgs', '2'];
const SHIFT = ['--shift-to', '2026-11-22'];

/** The two files of a trace, by the command. */
export function describeAzureTrace(findFiles: () => Promise<string[]>): void {
  const cli = useCli();

  it('is recorded once, exactly, whichever way it is given', async () => {
    const [code = '', conv = ''] = await findFiles();
    const first = await cli.ask('import', code, ...SPREAD, ...SHIFT);
    expect(first).toMatchObject({ status: 0, document: { duplicates: 0, rejected: 0 } });
    const both = await cli.ask('import', code, conv, ...SPREAD, ...SHIFT);
    expect(both).toMatchObject({
      status: 0,
      document: { duplicates: first.document.lines, rejected: 0 },
    });
    const again = await cli.ask('import', conv, ...SPREAD, ...SHIFT);
    expect(again).toMatchObject({ status: 0, document: { recorded: 0 } });

    const { rows } = await cli.database.pool.query(
      `select count(*)::int as rows, sum(cost)::text as raw,
         count(distinct kilo_user_id)::int as users,
         count(distinct organization_id)::int as organizations,
         min(created_at at time zone 'UTC')::date::text as first_day,
         max(created_at at time zone 'UTC')::date::text as last_day,
         (select sum(total_cost_microdollars)::text from microdollar_usage_daily_exact) as rollup
       from microdollar_usage`,
    );
    const { lines, recorded_cost_microdollars, duplicate_cost_microdollars } = both.document;
    expect(rows[0]).toEqual({
      rows: lines,
      raw: String(recorded_cost_microdollars + duplicate_cost_microdollars),
      rollup: rows[0].raw,
      users: 50,
      organizations: 2,
      first_day: '2026-11-22',
      last_day: '2026-11-22',
    });
  });
}
