import { Writable } from 'node:stream';
import type { Command } from 'commander';
import { expect, it } from 'vitest';
import { Output } from '../../src/cli/output.js';
import { PLANS, wordsOf } from '../../src/cli/overShards/plans.js';
import { namingLines } from '../../src/cli/overShards/shardStreams.js';
import { createProgram } from '../../src/cli/program.js';

/** Commands that do something, by their words; `help` is commander's. */
function leaves(command: Command): string[] {
  const parts = command.commands.flatMap(leaves);
  const isGroup = command.parent === null || !hasAction(command);
  return isGroup ? parts : [wordsOf(command), ...parts];
}

const hasAction = (command: Command): boolean =>
  (command as unknown as { _actionHandler: unknown })._actionHandler !== null;

it('of every command it is decided how it works over shards, and of no other', async () => {
  const output = new Output(false, process);
  const commands = leaves(await createProgram(output, async () => {}));
  expect(commands.sort()).toEqual(Object.keys(PLANS).sort());
});

it('lines name their shard, however they are written, and JSON lines have it as a field', async () => {
  let text = '';
  const target = new Writable({
    write(chunk, _encoding, done) {
      text += String(chunk);
      done();
    },
  });
  const naming = namingLines('b', target);
  for (const part of ['fir', 'st\n\nthird\n{"rollup":', '"daily"}\n', 'last']) naming.write(part);
  naming.end();
  await new Promise((resolve) => naming.once('finish', resolve));
  expect(text).toBe('b: first\nb: \nb: third\n{"shard":"b","rollup":"daily"}\nb: last\n');
});
