import { MAX_DAYS, MAX_ROWS } from '../../../report/usage/query.js';
import { reportSearch } from '../../reportInput.js';
import { EXAMPLE } from '../examples.js';
import type { OperationDoc } from '../types.js';

const sums = {
  cost_microdollars: 1250,
  requests: 1,
  errors: 0,
  input_tokens: 900,
  output_tokens: 120,
  cache_hit_tokens: 0,
  cache_write_tokens: 0,
};

const days = (grain: keyof typeof MAX_DAYS): string => MAX_DAYS[grain].toLocaleString('en');

export const reportOperations: readonly OperationDoc[] = [
  {
    id: 'getUsageReport',
    method: 'get',
    path: '/api/reports/usage',
    tag: 'reports',
    summary: 'Spend by period and dimension',
    description:
      'Exact at every instant. Of the own user; of an organization for its owner, the own ' +
      'part for its members, who name their user as `member`; a service key names whom. ' +
      '`requests` counts usage rows, so refunds and late prices too. ' +
      '`Accept: text/csv` or `format=csv` answers CSV. ' +
      `At most ${days('hour')} days by hour, ${days('day')} by day, ${days('week')} by week or month, ` +
      `and ${MAX_ROWS.toLocaleString('en')} for periods times groups.`,
    scope: 'usage:read',
    search: reportSearch,
    answers: {
      200: {
        description: 'Rows by period, and their total',
        others: ['text/csv'],
        body: {
          schema: 'UsageReport',
          example: {
            from: '2026-11-01',
            until: '2026-11-30',
            zone: 'Europe/Berlin',
            grain: 'day',
            by: ['model'],
            rows: [{ start: '2026-11-22', model: 'gpt-4o', ...sums }],
            total: sums,
            source: { mode: 'rollup', server: 'primary', asOf: EXAMPLE.at },
          },
        },
      },
    },
    errors: ['unknown_user', 'unknown_organization', 'not_found'],
  },
];
