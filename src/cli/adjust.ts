import { adjustUsage } from '../accounts/adjust.js';
import type { Register } from './context.js';
import { withDatabase } from './database.js';

export const registerAdjust: Register = (program, run) => {
  program
    .command('adjust <usage-id> <usd>')
    .description('refund (negative) or correct a request by a signed usage row that names it')
    .addHelpText(
      'after',
      '\nA negative amount follows "--": microdollar adjust <usage-id> -- -0.25',
    )
    .action((usageId: string, usd: string) =>
      run((context) =>
        withDatabase(context, async (database) => {
          const result = await adjustUsage(await database.ledger(), usageId, usd);
          context.output.answer(result, `recorded ${result.id}: ${usd} USD on ${usageId}`);
          return 0;
        }),
      ),
    );
};
