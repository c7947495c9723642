import type { UsageEvent } from '../record/types.js';
import { readJsonObject } from './jsonObject.js';
import { withStoredAttribution } from './storedAttribution.js';
import type { ImportedLine, Line } from './types.js';

/** One JSON object a line, in the words of `UsageEvent`. Fields are checked by the ledger. */
export async function* readJsonl(lines: AsyncIterable<Line>): AsyncGenerator<ImportedLine> {
  for await (const line of lines) {
    yield 'problem' in line ? line : parseLine(line.line, line.text);
  }
}

function parseLine(line: number, text: string): ImportedLine {
  const read = readJsonObject(text, 'event');
  return 'problem' in read
    ? { line, ...read }
    : { line, event: withStoredAttribution(read.value as unknown as UsageEvent) };
}
