import { adjustUsage } from '../accounts/adjust.js';
import { formatUsd } from '../money.js';
import type { Register } from './context.js';
import { withDatabase } from './database.js';

export const registerAdjust: Register = (program, run) => {
  program
    .command('adjust <usage-id> <usd>')
    .description('refund (negative) or correct a request by a signed usage row that names it')
    .addHelpText('after', '\nExample, a refund of 25 cents: microdollar adjust <usage-id> -0.25')
    .action((usageId: string, usd: string) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const result = await adjustUsage(await database.ledger(), usageId, usd);
          // What was recorded: the argument may have been rounded.
          const amount = formatUsd(result.cost);
          context.output.answer(result, `recorded ${result.id}: ${amount} USD on ${usageId}`);
          return 0;
        }),
      ),
    );
};
