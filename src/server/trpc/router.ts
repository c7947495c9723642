import { alertsRouter } from './alerts.js';
import { readCurrentBalance } from './balance.js';
import { budgetsRouter } from './budgets.js';
import { keysRouter } from './keys.js';
import { readAverageMonthlyUsage } from './kiloPass.js';
import { membersRouter } from './members.js';
import { operationsRouter } from './operations.js';
import { router } from './procedure.js';
import { readAccount } from './profile.js';
import { readReport } from './report.js';
import { readRequest, readRequests } from './requests.js';
import { readSession } from './session.js';
import { readByModel, readDaily, readRecent } from './usage.js';

/** Plain JSON, no transformer: any HTTP client can call it. */
export const appRouter = router({
  kiloPass: router({ getAverageMonthlyUsageLast3Months: readAverageMonthlyUsage }),
  usage: router({
    daily: readDaily,
    recent: readRecent,
    byModel: readByModel,
    report: readReport,
    requests: readRequests,
    request: readRequest,
  }),
  balance: router({ current: readCurrentBalance }),
  session: router({ current: readSession }),
  profile: router({ account: readAccount }),
  keys: keysRouter,
  budgets: budgetsRouter,
  members: membersRouter,
  alerts: alertsRouter,
  operations: operationsRouter,
});

/** For the page's typed client; a type only. */
export type AppRouter = typeof appRouter;
