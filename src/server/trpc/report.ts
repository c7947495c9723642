import { toJson } from '../../money.js';
import { resolveReportScope } from '../reportAccess.js';
import { readReportInput } from '../reportInput.js';
import { setAnswerSource } from './answerSource.js';
import { procedureFor } from './procedure.js';

/** Usage by period and dimension (src/report/usage). Exact (I2). */
export const readReport = procedureFor('usage:read')
  .input((value: unknown) => readReportInput(value))
  .query(async ({ ctx, input }) => {
    const scope = await resolveReportScope(ctx.ledger.pool, ctx.principal, input);
    const report = await ctx.ledger.getUsageReport({ ...input, ...scope });
    setAnswerSource(ctx, report.source);
    return toJson(report);
  });
