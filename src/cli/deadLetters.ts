import { readDeadLetters } from '../journal/deadLetters.js';
import { journalRoot } from '../journal/slots.js';
import type { CommandContext, CommandStatus, Register } from './context.js';
import { withMigratedDatabase } from './database.js';
import { formatCount } from './output.js';

export const registerDeadLetters: Register = (command, run) => {
  command
    .option('--retry', 'record them again, after the cause is gone; safe to repeat')
    .action((options: { retry?: true }) =>
      run((context) => (options.retry ? retry(context) : list(context))),
    );
};

async function list({ environment, output }: CommandContext): Promise<CommandStatus> {
  const letters = await readDeadLetters(journalRoot(environment.dataDir));
  const lines = letters.map((letter) => JSON.stringify(letter));
  output.answer({ dead_letters: letters }, lines.length === 0 ? 'none' : lines.join('\n'));
  return letters.length === 0 ? 0 : 1;
}

async function retry(context: CommandContext): Promise<CommandStatus> {
  return withMigratedDatabase(context, async (database) => {
    const { retryDeadLetters } = await import('../gateway/durable/retryDeadLetters.js');
    const root = journalRoot(context.environment.dataDir);
    const report = await retryDeadLetters(await database.ledger(), root);
    context.output.answer(
      report,
      `${formatCount(report.resolved)} recorded, ${formatCount(report.refused.length)} refused again`,
    );
    return report.refused.length === 0 ? 0 : 1;
  });
}
