import { queryOnPool } from '../db/query.js';
import type { Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { formatAmount, formatCount } from './output.js';

const MAX_ROWS = 10_000_000;
/** Of a kind that no index has: each page reads the table. */
const INCOMPLETE_PAGE = 5_000;

export const registerPriceUnpriced: Register = (command, run) => {
  command
    .option(
      '--incomplete',
      'instead: usage that was charged without a part that had no price; reads the whole table',
    )
    .action((options: { incomplete?: true }) =>
      run((context) =>
        withMigratedDatabase(context, async (database) => {
          const { createPricer, priceUnpriced } = await import('../gateway/prices/index.js');
          const pricer = createPricer({ ownPricesFile: context.environment.pricesFile });
          try {
            const ledger = await database.ledger();
            const query = queryOnPool(database.pool(), false);
            const report = await priceUnpriced({
              query,
              ledger,
              pricer,
              maxRows: MAX_ROWS,
              kind: options.incomplete ? 'incomplete' : 'unpriced',
              ...(options.incomplete ? { pageSize: INCOMPLETE_PAGE } : {}),
            });
            await ledger.fold();
            context.output.answer(
              {
                seen: report.seen,
                priced: report.priced,
                already_priced: report.alreadyPriced,
                still_unpriced: report.stillUnpriced,
                rejected: report.rejected,
                cost_microdollars: report.costMicrodollars,
              },
              `${formatCount(report.priced)} of ${formatCount(report.seen)} priced, ` +
                `${formatAmount(report.costMicrodollars)}; ` +
                `${formatCount(report.stillUnpriced)} still without a price`,
            );
            return report.rejected === 0 ? 0 : 1;
          } finally {
            pricer.close();
          }
        }),
      ),
    );
};
