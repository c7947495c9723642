import { toCsv } from '../../report/usage/reportCsv.js';
import type { Principal } from '../auth.js';
import type { ServerPlugin } from '../plugins.js';
import { readNamedReport } from '../reportAccess.js';
import { readReportSearch } from '../reportInput.js';

/** `GET /api/reports/usage`: JSON, or CSV by `Accept: text/csv` or `format=csv`. */
export const reportRoutes: ServerPlugin = (app, { ledger, requireScope }) => {
  app.get(
    '/api/reports/usage',
    { onRequest: requireScope('usage:read') },
    async (request, reply) => {
      const { format, ...asked } = readReportSearch(request.query);
      const report = await readNamedReport(ledger, request.principal as Principal, asked);
      const isCsv =
        format === 'csv' || (format === null && /\btext\/csv\b/.test(request.headers.accept ?? ''));
      if (!isCsv) return report;
      reply.header('content-type', 'text/csv; charset=utf-8');
      reply.header(
        'content-disposition',
        `attachment; filename="usage-${report.from}-${report.until}.csv"`,
      );
      return reply.send(toCsv(report));
    },
  );
};
