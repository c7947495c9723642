import { toJson } from '../../money.js';
import { readNamedReport } from '../reportAccess.js';
import { reportInput, toReportRequest } from '../reportInput.js';
import { inputOrNothing } from '../validation.js';
import { setAnswerSource } from './answerSource.js';
import { procedureFor } from './procedure.js';

export const readReport = procedureFor(
  'usage:read',
  'Usage by period and dimension, as `GET /api/reports/usage`: of the own user, of an ' +
    'organization for its owner, the own part for its members.',
)
  .input(inputOrNothing(reportInput))
  .query(async ({ ctx, input }) => {
    const report = await readNamedReport(ctx.ledger, ctx.principal, toReportRequest(input));
    setAnswerSource(ctx, report.source);
    return toJson(report);
  });
