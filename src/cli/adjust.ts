import { type AdjustmentOptions, adjustUsage } from '../accounts/adjust.js';
import { formatUsd } from '../money.js';
import type { Register } from './context.js';
import { withDatabase } from './database.js';

export const registerAdjust: Register = (command, run) => {
  command
    .addHelpText('after', '\nExample, a refund of 25 cents: microdollar adjust <usage-id> -0.25')
    .option('--id <uuid>', 'name this adjustment: the same id again is a duplicate')
    .option('--force', 'refund more than the request cost')
    .action((usageId: string, usd: string, options: AdjustmentOptions) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const result = await adjustUsage(await database.ledger(), usageId, usd, options);
          // What was recorded: the argument may have been rounded.
          const amount = formatUsd(result.cost);
          const what = `${result.id}: ${amount} USD on ${usageId}`;
          const needed = options.id === undefined ? '--id' : 'another --id';
          const told =
            result.status === 'duplicate'
              ? `recorded before as ${what}; another one of this amount needs ${needed}`
              : `recorded ${what}`;
          context.output.answer(result, told);
          return 0;
        }),
      ),
    );
};
