import {
  Copy,
  DockerfileParser,
  From,
  type Instruction,
  JSONInstruction,
  ModifiableInstruction,
  PropertyInstruction,
} from 'dockerfile-ast';

/** One instruction of a stage. */
export interface Step {
  keyword: string;
  /** `--from=build` and the like. */
  flags: { name: string; value: string }[];
  /** Of the exec form, else of the words. */
  words: string[];
  /** Of `ENV`. */
  variables: [name: string, value: string][];
  /** All that follows keyword and flags, as it is written. */
  text: string;
}

export interface Stage {
  name: string | null;
  /** An image, or an earlier stage. */
  base: string;
  steps: Step[];
}

/** The stages of a Dockerfile, in their order. */
export function readStages(content: string): Stage[] {
  const stages: Stage[] = [];
  for (const instruction of DockerfileParser.parse(content).getInstructions()) {
    if (instruction instanceof From) {
      stages.push({
        name: instruction.getBuildStage(),
        base: instruction.getImage() ?? '',
        steps: [],
      });
    } else {
      stages.at(-1)?.steps.push(readStep(instruction));
    }
  }
  return stages;
}

function readStep(instruction: Instruction): Step {
  const hasFlags = instruction instanceof ModifiableInstruction || instruction instanceof Copy;
  const flags = hasFlags
    ? instruction
        .getFlags()
        .map((flag) => ({ name: flag.getName(), value: flagValue(flag.toString()) }))
    : [];
  const exec =
    instruction instanceof JSONInstruction && instruction.getOpeningBracket() !== null
      ? instruction.getJSONStrings().map((each) => JSON.parse(each.getValue()) as string)
      : null;
  const variables =
    instruction instanceof PropertyInstruction
      ? instruction
          .getProperties()
          .map((each): [string, string] => [each.getName(), each.getValue() ?? ''])
      : [];
  return {
    keyword: instruction.getKeyword(),
    flags,
    words: exec ?? instruction.getArguments().map((argument) => argument.getValue()),
    variables,
    text: instruction
      .getTextContent()
      .replace(/^\S+\s+/, '')
      .replace(/^(?:--\S+\s+)*/, ''),
  };
}

const flagValue = (flag: string): string => flag.slice(flag.indexOf('=') + 1);
