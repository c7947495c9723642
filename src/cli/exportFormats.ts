import { stringify } from 'csv-stringify/sync';
import type { LedgerError } from '../errors.js';
import { guardCell } from '../formulas.js';
import { toJsonInteger } from '../money.js';
import type { ExportColumn, ExportShape } from './exportRows.sql.js';
import { errorMember } from './output.js';

/** A row as the database sends it: 64-bit integers as text. */
export type ExportRow = Readonly<Record<string, string | boolean | null>>;

export interface ExportTotal {
  rows: number;
  costMicrodollars: bigint;
  /** UTC days that were archived and are not in it; absent: none. */
  missingDays?: readonly string[];
}

/** How rows become text: a head, rows, and an end that holds the total. */
export interface ExportFormat {
  /** The column that is summed. */
  costColumn: string;
  head(): string;
  row(row: ExportRow, index: number): string;
  end(total: ExportTotal): string;
  /** Of a document, where the rest cannot come. */
  fail?(error: LedgerError): string;
}

/** RFC 4180 with CRLF left to those who need it: LF, a header, a last row `total,...`. */
export function csvFormat(shape: ExportShape): ExportFormat {
  const line = (cells: readonly string[]) => stringify([[...cells]]);
  return {
    costColumn: shape.costColumn,
    head: () => line(shape.columns.map((column) => column.name)),
    row: (row) => line(shape.columns.map((column) => csvCell(row[column.name], column))),
    end: (total) =>
      line(
        shape.columns.map((column, index) => {
          if (index === 0) return 'total';
          return column.name === shape.costColumn ? String(total.costMicrodollars) : '';
        }),
      ),
  };
}

function csvCell(value: string | boolean | null | undefined, column: ExportColumn): string {
  if (value === null || value === undefined) return '';
  const text = String(value);
  if (column.isNote && text === '') return '';
  return column.isText ? guardCell(text) : text;
}

/** One JSON object a row, and a last one with the total. */
export function jsonlFormat(shape: ExportShape): ExportFormat {
  return {
    costColumn: shape.costColumn,
    head: () => '',
    row: (row) => `${JSON.stringify(toJson(row, shape))}\n`,
    end: (total) => `${JSON.stringify(totalOf(total))}\n`,
  };
}

/** One JSON document. */
export function jsonFormat(shape: ExportShape): ExportFormat {
  return {
    costColumn: shape.costColumn,
    head: () => `{"${shape.listName}":[`,
    row: (row, index) => `${index === 0 ? '' : ','}\n${JSON.stringify(toJson(row, shape))}`,
    end: (total) => `\n],${JSON.stringify(totalOf(total)).slice(1)}\n`,
    fail: (error) => `\n],${errorMember(error)}}\n`,
  };
}

export function totalOf({ costMicrodollars, rows, missingDays = [] }: ExportTotal) {
  return {
    total_cost_microdollars: toJsonInteger(costMicrodollars),
    rows,
    ...(missingDays.length === 0 ? {} : { missing_days: missingDays }),
  };
}

function toJson(row: ExportRow, shape: ExportShape): Record<string, unknown> {
  return Object.fromEntries(
    shape.columns.map((column) => {
      const value = row[column.name] ?? null;
      if (column.isJson && typeof value === 'string') return [column.name, JSON.parse(value)];
      const isNumber = column.isNumber && typeof value === 'string';
      return [column.name, isNumber ? toJsonInteger(value) : value];
    }),
  );
}
