import { toJson } from '../../money.js';
import { resolveReport } from '../reportAccess.js';
import { readReportInput, toReportRequest } from '../reportInput.js';
import { setAnswerSource } from './answerSource.js';
import { procedureFor } from './procedure.js';

/** Usage by period and dimension (src/report/usage). Exact (I2). */
export const readReport = procedureFor('usage:read')
  .input((value: unknown) => readReportInput(value))
  .query(async ({ ctx, input }) => {
    const query = await resolveReport(ctx.ledger.pool, ctx.principal, toReportRequest(input));
    const report = await ctx.ledger.getUsageReport(query);
    setAnswerSource(ctx, report.source);
    return toJson(report);
  });
