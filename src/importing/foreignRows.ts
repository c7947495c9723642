import { readCsvRecords } from './csvRecords.js';
import type { ImportNotes } from './importNotes.js';
import { readJsonObject } from './jsonObject.js';
import type { Line } from './types.js';

/** A row of another product's export; columns by `columnKey` of their names, without empty ones. */
export type ForeignRow = ReadonlyMap<string, unknown>;

export type ForeignLine =
  | { line: number; row: ForeignRow }
  | { line: number; problem: string; fatal?: true };

export interface ForeignColumns {
  /** What the file is, for messages. */
  source: string;
  /** Columns that are mapped. */
  used: readonly string[];
  /** Columns that are known and have no place in an event. */
  unused: readonly string[];
  /** The header has every column of one of these. */
  oneOf: readonly (readonly string[])[];
  /** Also one JSON object a line. */
  takesJson: boolean;
}

/** `startTime`, `start_time` and `"startTime" ` are one column. */
function columnKey(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '');
}

/** Rows of CSV with a header, or of JSON Lines, by what the first line looks like. */
export async function* readForeignRows(
  lines: AsyncIterable<Line>,
  columns: ForeignColumns,
  notes: ImportNotes,
): AsyncGenerator<ForeignLine> {
  const source = lines[Symbol.asyncIterator]();
  const first = await source.next();
  const all = (async function* () {
    if (!first.done) yield first.value;
    yield* { [Symbol.asyncIterator]: () => source };
  })();
  const isJson = !first.done && 'text' in first.value && first.value.text.trimStart()[0] === '{';
  const known = new Known(columns, notes);
  if (isJson && columns.takesJson) yield* readJsonRows(all, known);
  else yield* readCsvRows(all, columns, known);
}

async function* readJsonRows(lines: AsyncIterable<Line>, known: Known) {
  for await (const line of lines) {
    if ('problem' in line) yield line;
    else yield toJsonRow(line.line, line.text, known);
  }
}

function toJsonRow(line: number, text: string, known: Known): ForeignLine {
  const read = readJsonObject(text, 'row');
  if ('problem' in read) return { line, ...read };
  const row = new Map<string, unknown>();
  for (const [name, cell] of Object.entries(read.value)) {
    known.note(name);
    if (cell !== null && cell !== '') row.set(columnKey(name), cell);
  }
  return { line, row };
}

async function* readCsvRows(
  lines: AsyncIterable<Line>,
  columns: ForeignColumns,
  known: Known,
): AsyncGenerator<ForeignLine> {
  let keys: string[] | null = null;
  for await (const record of readCsvRecords(lines)) {
    if ('problem' in record) {
      yield keys === null ? { ...record, fatal: true } : record;
      if (keys === null) return;
    } else if (keys === null) {
      const problem = problemOfHeader(record.cells, columns);
      if (problem !== null) {
        yield { line: record.line, problem, fatal: true };
        return;
      }
      for (const name of record.cells) known.note(name);
      keys = record.cells.map(columnKey);
    } else if (record.cells.length !== keys.length) {
      const problem = `has ${record.cells.length} cells, the header ${keys.length}`;
      yield { line: record.line, problem };
    } else {
      const row = new Map<string, unknown>();
      for (const [index, key] of keys.entries()) {
        if (record.cells[index] !== '') row.set(key, record.cells[index]);
      }
      yield { line: record.line, row };
    }
  }
  if (keys === null) {
    const problem = `is empty: expected the header of ${columns.source}`;
    yield { line: 1, problem, fatal: true };
  }
}

function problemOfHeader(cells: readonly string[], columns: ForeignColumns): string | null {
  const keys = cells.map(columnKey);
  const twice = cells.find((name, index) => keys.indexOf(columnKey(name)) !== index);
  if (twice !== undefined) return `the header names ${JSON.stringify(twice.slice(0, 100))} twice`;
  const isComplete = columns.oneOf.some((names) =>
    names.every((name) => keys.includes(columnKey(name))),
  );
  if (isComplete) return null;
  const wanted = columns.oneOf.map((names) => names.join(', ')).join('; or ');
  return `is not the header of ${columns.source}: expected at least ${wanted}`;
}

/** Tells which columns are left out, each once. */
class Known {
  readonly #used: ReadonlySet<string>;
  readonly #unused: ReadonlySet<string>;
  readonly #seen = new Set<string>();
  readonly #notes: ImportNotes;

  constructor({ used, unused }: ForeignColumns, notes: ImportNotes) {
    this.#used = new Set(used.map(columnKey));
    this.#unused = new Set(unused.map(columnKey));
    this.#notes = notes;
  }

  note(name: string): void {
    if (this.#seen.has(name)) return;
    this.#seen.add(name);
    const key = columnKey(name);
    if (this.#used.has(key)) return;
    if (this.#unused.has(key)) this.#notes.unusedColumn(name);
    else this.#notes.unknownColumn(name);
  }
}
