import { sqlStateOf, toLedgerError } from '../db/sqlstate.js';
import { LedgerError } from '../errors.js';
import { exactIntegers, formatUsd } from '../money.js';

/** Where a command writes; streams are given, so that tests can read them. */
export interface Streams {
  stdout: NodeJS.WritableStream;
  stderr: NodeJS.WritableStream & { isTTY?: boolean };
}

/** What commands print: with `--json` one document on stdout, else short text. */
export class Output {
  readonly json: boolean;
  readonly streams: Streams;

  constructor(json: boolean, streams: Streams) {
    this.json = json;
    this.streams = streams;
  }

  /** The answer of a command, in both forms. */
  answer(document: unknown, text: string): void {
    if (this.json) this.streams.stdout.write(`${JSON.stringify(document, exactIntegers)}\n`);
    else if (text !== '') this.streams.stdout.write(`${showControls(text)}\n`);
  }

  /** A remark for a person; never on stdout, never with `--json`. */
  note(text: string): void {
    if (!this.json) this.streams.stderr.write(`${showControls(text)}\n`);
  }

  error(error: LedgerError): void {
    if (!this.json) {
      this.streams.stderr.write(`error: ${showControls(error.message)}\n`);
      return;
    }
    const { code, message, details } = error;
    this.streams.stdout.write(`${JSON.stringify({ error: { code, message, details } })}\n`);
  }
}

/** Any failure as the error a user is told; of a database's, its SQLSTATE is kept. */
export function toCommandError(error: unknown): LedgerError {
  if (error instanceof LedgerError) return error;
  const isDatabase = sqlStateOf(error) !== null || isConnectionFailure(error);
  if (isDatabase) return toLedgerError(error);
  const message = error instanceof Error ? error.message : String(error);
  return new LedgerError('internal', message, { cause: error });
}

/** Of the driver, which gives them no code. */
const LOST_CONNECTION =
  /^Connection terminated|not queryable$|^Query read timeout|^timeout exceeded when trying to connect/;

/** System errors of a socket; of a file they are the command's own affair. */
function isConnectionFailure(error: unknown): boolean {
  const { syscall, message } = (error ?? {}) as { syscall?: unknown; message?: unknown };
  if (['connect', 'getaddrinfo', 'read', 'write'].includes(String(syscall))) return true;
  if (error instanceof AggregateError) return error.errors.some(isConnectionFailure);
  return LOST_CONNECTION.test(String(message));
}

/** What a terminal obeys instead of showing it; not the line breaks between lines. */
const CONTROLS = /(?!\n)[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;

/** Names come from whoever sends requests: none moves the cursor of an operator's terminal. */
function showControls(text: string): string {
  return text.replace(CONTROLS, toEscape);
}

function toEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** Columns padded to equal width; the `right` ones (by index) aligned to the right. */
export function alignTable(table: readonly (readonly string[])[], right: readonly number[] = []) {
  const rows = table.map((row) => row.map((cell) => showControls(cell.replaceAll('\n', toEscape))));
  const widths: number[] = [];
  for (const row of rows) {
    for (const [index, cell] of row.entries()) {
      widths[index] = Math.max(widths[index] ?? 0, cell.length);
    }
  }
  const pad = (cell: string, index: number) =>
    right.includes(index) ? cell.padStart(widths[index] ?? 0) : cell.padEnd(widths[index] ?? 0);
  return rows.map((row) => row.map(pad).join('  ').trimEnd()).join('\n');
}

/** How rows of a list are shown to a person. */
export interface ListColumns<Row> {
  head: readonly string[];
  cells(row: Row): string[];
  /** Columns that are aligned to the right, by index. */
  right?: readonly number[];
}

/** A page of a list: a document under `name`, or a table; a longer list says how to go on. */
export function answerList<Row>(
  output: Output,
  name: string,
  { rows, has_more }: { rows: readonly Row[]; has_more: boolean },
  { head, cells, right = [] }: ListColumns<Row>,
): void {
  const table = alignTable([head, ...rows.map(cells)], right);
  output.answer({ [name]: rows, has_more }, rows.length === 0 ? `no ${name}` : table);
  if (has_more) output.note(`the first ${rows.length} ${name}; there are more`);
}

/** 12345 -> 12,345 */
export function formatCount(count: number | bigint): string {
  return count.toLocaleString('en-US');
}

/** Of a balance, when some of its credit expires next. */
export function formatExpiry(at: string | null): string {
  return at === null ? '' : `; credit expires ${at}`;
}

/** Microdollars as `12.345678 USD`. */
export function formatAmount(amountMicrodollars: number | bigint): string {
  return `${formatUsd(amountMicrodollars)} USD`;
}
