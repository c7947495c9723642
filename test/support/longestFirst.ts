import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Files that take half a minute, though they are short: begun last, they would be waited for with
 * processors idle. In a fresh clone Vitest knows only sizes.
 */
const LONG = new RegExp(
  [
    'chaos/chaos',
    'e2e/(operations|requestsAndKeys)',
    'faults/shardKill',
    'integration/(archiveKill|cliRollup|cliStart|cliStartMachines|documentedCommands)',
    'integration/(embeddedMemory|generationSessions|packed)',
    'property/ledgerModel',
    'realInputs/(azureTrace|gateway)',
    'unit/benchApproaches',
  ].join('|'),
);

/** These first, then Vitest's own order. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification) => LONG.test(moduleId);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}
