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
const BETWEEN = 3;

/**
 * Vitest's own order, with a long one before every third: each is begun early, and while they wait for what
 * they start, there is work for the processors. All at once at the start left a third of these idle.
 */
export class LongAmongShort extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification) => LONG.test(moduleId);
    const long = sorted.filter(isLong);
    const short = sorted.filter((file) => !isLong(file));
    const woven = short.flatMap((file, at) => {
      const next = at % BETWEEN === 0 ? long[at / BETWEEN] : undefined;
      return next === undefined ? [file] : [next, file];
    });
    return [...woven, ...long.slice(Math.ceil(short.length / BETWEEN))];
  }
}
