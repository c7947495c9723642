import { getTableColumns } from 'drizzle-orm';
import { unguardCell } from '../formulas.js';
import { EVENT_FIELDS, METADATA_FIELDS } from '../record/event.js';
import type { UsageEvent } from '../record/types.js';
import { microdollarUsage } from '../schema/usage.js';
import { microdollarUsageMetadata } from '../schema/usageMetadata.js';
import { readCsvRecords } from './csvRecords.js';
import { withStoredAttribution } from './storedAttribution.js';
import type { ImportedLine, ImportFormat, Line } from './types.js';

type CellKind = 'text' | 'integer' | 'number' | 'boolean' | 'texts';

interface CsvColumn {
  /** Column of the event, or of its metadata. */
  field: string;
  inMetadata: boolean;
  kind: CellKind;
}

/** Columns that only exports of others have, which are CSV as well: what they are, and their format. */
const FOREIGN_COLUMNS: ReadonlyMap<string, readonly [what: string, format: ImportFormat]> = new Map(
  [
    ['TIMESTAMP', ['an Azure trace', 'azure-llm']],
    ['spend', ['LiteLLM_SpendLogs', 'litellm']],
    ['startTime', ['LiteLLM_SpendLogs', 'litellm']],
    ['cost_total', ["OpenRouter's activity", 'openrouter']],
    ['byok_usage_inference', ["OpenRouter's activity", 'openrouter']],
  ],
);
const METADATA_PREFIX = 'metadata.';
/** Programs that keep numbers as floating point save 5 as 5.0. */
const WHOLE_NUMBER = /^[+-]?\d+(\.0*)?$/;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/**
 * CSV with a header of column names: those of the event, and `metadata.<field>`. An empty cell is
 * null. A cell that is not of its column's type goes to the ledger as it is, which names it. Text that
 * `export` keeps from being a formula, or null, is what it was: `'@cf/llama` is `@cf/llama`, a lone
 * apostrophe the empty text.
 */
export async function* readCsv(lines: AsyncIterable<Line>): AsyncGenerator<ImportedLine> {
  let columns: CsvColumn[] | null = null;
  for await (const record of readCsvRecords(lines)) {
    if (columns === null) {
      const header = 'problem' in record ? record.problem : readHeader(record.cells);
      if (typeof header === 'string') {
        yield { line: record.line, problem: header, fatal: true };
        return;
      }
      columns = header;
    } else if ('problem' in record) {
      yield record;
    } else if (record.cells.length !== columns.length) {
      const problem = `has ${record.cells.length} cells, the header ${columns.length}`;
      yield { line: record.line, problem };
    } else {
      yield { line: record.line, event: toEvent(columns, record.cells) };
    }
  }
  if (columns === null) {
    yield { line: 1, problem: 'is empty: expected a header of column names', fatal: true };
  }
}

/** The columns, or what is wrong with them. */
function readHeader(cells: readonly string[]): CsvColumn[] | string {
  const columns: CsvColumn[] = [];
  const seen = new Set<string>();
  for (const cell of cells) {
    const name = cell.trim();
    if (seen.has(name)) return `the header names ${quoteName(name)} twice`;
    seen.add(name);
    const column = findColumn(name);
    if (column === null) {
      const foreign = cells.map((each) => FOREIGN_COLUMNS.get(each.trim())).find(Boolean);
      if (foreign) return `is the header of ${foreign[0]}: say --format ${foreign[1]}`;
      return `the header names ${quoteName(name)}, which is not a column; known: ${[
        ...EVENT_FIELDS.filter((field) => field !== 'metadata'),
        'metadata.<field>',
      ].join(', ')}`;
    }
    columns.push(column);
  }
  for (const required of ['kilo_user_id', 'cost']) {
    if (!seen.has(required)) return `the header lacks ${required}`;
  }
  return columns;
}

function findColumn(name: string): CsvColumn | null {
  if (name.startsWith(METADATA_PREFIX)) {
    const field = name.slice(METADATA_PREFIX.length);
    if (!METADATA_FIELDS.includes(field)) return null;
    return { field, inMetadata: true, kind: METADATA_KINDS.get(field) ?? 'text' };
  }
  if (name === 'metadata' || !EVENT_FIELDS.includes(name)) return null;
  const kind = EVENT_KINDS.get(name) ?? METADATA_KINDS.get(name) ?? 'text';
  return { field: name, inMetadata: false, kind };
}

function toEvent(columns: readonly CsvColumn[], cells: readonly string[]): UsageEvent {
  const event: Record<string, unknown> = {};
  const metadata: Record<string, unknown> = {};
  for (const [index, column] of columns.entries()) {
    const cell = cells[index] ?? '';
    if (cell === '') continue;
    (column.inMetadata ? metadata : event)[column.field] = readCell(cell, column.kind);
  }
  if (Object.keys(metadata).length > 0) event.metadata = metadata;
  return withStoredAttribution(event as unknown as UsageEvent);
}

function readCell(cell: string, kind: CellKind): unknown {
  switch (kind) {
    case 'text':
      return unguardCell(cell);
    case 'texts':
      return readTexts(cell);
    case 'integer':
      return WHOLE_NUMBER.test(cell.trim()) ? Number(cell) : cell;
    case 'number':
      return NUMBER.test(cell.trim()) ? Number(cell) : cell;
    case 'boolean':
      return BOOLEANS.get(cell.trim().toLowerCase()) ?? cell;
  }
}

/** As `export` writes them, a JSON array; or with commas between. */
function readTexts(cell: string): unknown {
  if (!cell.trimStart().startsWith('[')) return cell.split(',').map((text) => text.trim());
  try {
    return JSON.parse(cell);
  } catch {
    return cell;
  }
}

/** As PostgreSQL writes them, and as JSON does. */
const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['t', true],
  ['false', false],
  ['f', false],
]);

const KIND_BY_COLUMN_TYPE: Readonly<Record<string, CellKind>> = {
  PgBigInt53: 'integer',
  PgInteger: 'integer',
  PgDoublePrecision: 'number',
  PgBoolean: 'boolean',
  PgArray: 'texts',
};

/** What each column holds, from the schema. */
function kindsOf(columns: Record<string, { columnType: string }>): ReadonlyMap<string, CellKind> {
  return new Map(
    Object.entries(columns).map(([name, column]) => [
      name,
      KIND_BY_COLUMN_TYPE[column.columnType] ?? 'text',
    ]),
  );
}

const EVENT_KINDS = kindsOf(getTableColumns(microdollarUsage));
const METADATA_KINDS = kindsOf(getTableColumns(microdollarUsageMetadata));

function quoteName(name: string): string {
  return JSON.stringify(name.slice(0, 100));
}
