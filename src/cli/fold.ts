import type { Register } from './context.js';
import { withDatabase } from './database.js';
import { formatCount } from './output.js';

/** A fold that drains nothing more leaves only what others hold. */
const MAX_PASSES = 1000;

export const registerFold: Register = (command, run) => {
  command.action(() =>
    run((context) =>
      withDatabase(context, async (database) => {
        const ledger = await database.ledger();
        let drained = 0;
        let remaining = 0;
        for (let pass = 0; pass < MAX_PASSES; pass++) {
          const report = await ledger.fold();
          drained += report.drained;
          remaining = report.remaining;
          if (remaining === 0 || report.drained === 0) break;
        }
        const left =
          remaining === 0 ? '' : `; ${formatCount(remaining)} remain, held by another session`;
        context.output.answer({ drained, remaining }, `drained ${formatCount(drained)}${left}`);
        return remaining === 0 ? 0 : 1;
      }),
    ),
  );
};
