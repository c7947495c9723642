import { parse } from 'csv-parse/sync';
import { MAX_LINE_BYTES } from './readLines.js';
import type { Line } from './types.js';

/** A CSV record at the line it begins on. */
export type CsvRecord = { line: number; cells: string[] } | { line: number; problem: string };

/** How many lines one quoted cell may span. */
const MAX_RECORD_LINES = 1000;
/** What spreadsheets put between cells, by country; the first where the header has one cell. */
const DELIMITERS = [',', ';', '\t'] as const;

/**
 * CSV records (RFC 4180) from lines; a quoted cell may hold line ends. Where a quote is never
 * closed, only the line it is on is rejected, and the lines after it are read on their own. The file's own
 * line end is a line feed within a cell: programs that save a file with another one write it there as well.
 * What stands between cells (comma, semicolon or tab) is what the first line has most of.
 */
export async function* readCsvRecords(lines: AsyncIterable<Line>): AsyncGenerator<CsvRecord> {
  const source = lines[Symbol.asyncIterator]();
  const pushedBack: Line[] = [];
  const next = async (): Promise<Line | null> => {
    const waiting = pushedBack.shift();
    if (waiting !== undefined) return waiting;
    const result = await source.next();
    return result.done ? null : result.value;
  };

  const toText = createNormalizer();
  let delimiter: string | null = null;
  for (let first = await next(); first !== null; first = await next()) {
    if ('problem' in first) {
      yield first;
      continue;
    }
    toText(first.before);
    delimiter ??= findDelimiter(first.text);
    if (!hasOpenQuote(first.text)) {
      yield parseRecord(first.line, first.text, delimiter);
      continue;
    }
    const joined = await joinQuoted(first, next, toText);
    const record: CsvRecord =
      joined.text === null
        ? { line: first.line, problem: 'has a quote that is never closed' }
        : parseRecord(first.line, joined.text, delimiter);
    if ('problem' in record) pushedBack.unshift(...joined.rest);
    yield record;
  }
}

/** Takes lines until the quote that `first` opens is closed; `text` is null when it never is. */
async function joinQuoted(
  first: { text: string },
  next: () => Promise<Line | null>,
  toText: (between: string) => string,
): Promise<{ text: string | null; rest: Line[] }> {
  const rest: Line[] = [];
  let text = first.text;
  while (rest.length < MAX_RECORD_LINES && text.length <= MAX_LINE_BYTES) {
    const line = await next();
    if (line === null) break;
    rest.push(line);
    if ('problem' in line) break;
    text += toText(line.before) + line.text;
    if (hasOpenQuote(line.text)) return { text, rest };
  }
  return { text: null, rest };
}

/** What stands between lines as text of a cell; the first line end that it is given is the file's own. */
function createNormalizer(): (between: string) => string {
  let end: string | undefined;
  return (between) => {
    end ??= /\r\n|\r|\n/.exec(between)?.[0];
    return end === undefined ? between : between.replaceAll(end, '\n');
  };
}

/** An odd number of quotes opens, or closes, a quoted cell that spans lines. */
function hasOpenQuote(text: string): boolean {
  let quotes = 0;
  for (let at = text.indexOf('"'); at !== -1; at = text.indexOf('"', at + 1)) quotes += 1;
  return quotes % 2 === 1;
}

function findDelimiter(header: string): string {
  const unquoted = header.replace(/"[^"]*"/g, '');
  const countOf = (delimiter: string) => unquoted.split(delimiter).length;
  return DELIMITERS.reduce((most, each) => (countOf(each) > countOf(most) ? each : most));
}

function parseRecord(line: number, text: string, delimiter: string): CsvRecord {
  if (!text.includes('"')) return { line, cells: text.split(delimiter) };
  try {
    const [cells] = parse(text, { relax_column_count: true, delimiter }) as string[][];
    return { line, cells: cells ?? [] };
  } catch {
    return { line, problem: 'is not CSV: a quote is out of place' };
  }
}
