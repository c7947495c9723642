import { readCurrentBalance } from './balance.js';
import { readAverageMonthlyUsage } from './kiloPass.js';
import { readStatus } from './operations.js';
import { router } from './procedure.js';
import { readByModel, readDaily, readRecent } from './usage.js';

/** Plain JSON, no transformer: any HTTP client can call it (contract.md, "HTTP"). */
export const appRouter = router({
  kiloPass: router({ getAverageMonthlyUsageLast3Months: readAverageMonthlyUsage }),
  usage: router({ daily: readDaily, recent: readRecent, byModel: readByModel }),
  balance: router({ current: readCurrentBalance }),
  operations: router({ status: readStatus }),
});

/** For the page's typed client; a type only. */
export type AppRouter = typeof appRouter;
