import type { UsageEvent } from '../record/types.js';
import type { ImportedLine, Line } from './types.js';

/** One JSON object a line, in the words of `UsageEvent`. Fields are checked by the ledger. */
export async function* readJsonl(lines: AsyncIterable<Line>): AsyncGenerator<ImportedLine> {
  for await (const line of lines) {
    yield 'problem' in line ? line : parseLine(line.line, line.text);
  }
}

function parseLine(line: number, text: string): ImportedLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { line, problem: 'is not JSON' };
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { line, problem: 'is not a JSON object: expected one event a line' };
  }
  return { line, event: value as UsageEvent };
}
