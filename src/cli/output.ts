import { once } from 'node:events';
import { sqlStateOf, toLedgerError } from '../db/sqlstate.js';
import { diskFault } from '../diskFaults.js';
import { LedgerError } from '../errors.js';
import { parseInstant } from '../instant.js';
import { exactIntegers, formatUsd } from '../money.js';

/** Where a command writes; streams are given, so that tests can read them. */
export interface Streams {
  stdout: NodeJS.WritableStream;
  stderr: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
}

/** What commands print: with `--json` one document on stdout, else short text. */
export class Output {
  readonly json: boolean;
  readonly streams: Streams;
  #failure: NodeJS.ErrnoException | null = null;
  #isFailureTold = false;
  /** The one document is out, or ends so: a second one would make both unreadable. */
  #hasAnswered = false;
  #endDocument: ((error: LedgerError) => string) | null = null;

  constructor(json: boolean, streams: Streams) {
    this.json = json;
    this.streams = streams;
  }

  /** A disk that is full, or a reader that went away, is told at the end, not thrown. */
  watchStreams(): void {
    const { stdout, stderr } = this.streams;
    stdout.on('error', (error) => {
      this.#failure ??= error;
    });
    stderr.on('error', () => {});
  }

  /** Once everything is written. @throws LedgerError `unavailable` where it could not be */
  async flush(): Promise<void> {
    if (this.#failure === null) await this.#drained();
    if (!this.#isFailureTold) this.#requireWhole();
  }

  /** When what was written is out, or cannot be. */
  #drained(): Promise<void> {
    const { stdout } = this.streams;
    return new Promise((resolve) => {
      stdout.once('error', () => resolve());
      stdout.write('', () => resolve());
    });
  }

  /** A part of a long answer, with the reader's pace. @throws LedgerError `unavailable` */
  async write(text: string): Promise<void> {
    if (text === '') return;
    this.#requireWhole();
    if (!this.streams.stdout.write(text)) await once(this.streams.stdout, 'drain').catch(() => {});
    this.#requireWhole();
  }

  #requireWhole(): void {
    if (this.#failure === null) return;
    this.#isFailureTold = true;
    throw describeUnwritten(this.#failure);
  }

  /** From here the document is written in parts; `end` closes it where the rest cannot come. */
  openDocument(end: (error: LedgerError) => string): void {
    this.#endDocument = end;
  }

  closeDocument(): void {
    this.#endDocument = null;
    this.#hasAnswered = true;
  }

  /** The answer of a command, in both forms. */
  answer(document: unknown, text: string): void {
    this.#hasAnswered = true;
    if (this.json) this.streams.stdout.write(`${JSON.stringify(document, exactIntegers)}\n`);
    else if (text !== '') this.streams.stdout.write(`${showControls(text)}\n`);
  }

  /** A remark for a person; never on stdout, never with `--json`. */
  note(text: string): void {
    if (!this.json) this.streams.stderr.write(`${showControls(text)}\n`);
  }

  error(error: LedgerError): void {
    if (!this.json || this.#hasAnswered || this.#failure !== null) {
      this.streams.stderr.write(`error: ${showControls(error.message)}\n`);
      return;
    }
    this.#hasAnswered = true;
    const end = this.#endDocument ?? ((failure) => `{${errorMember(failure)}}\n`);
    this.streams.stdout.write(end(error));
  }
}

/** `"error":{...}`, for a document. */
export function errorMember({ code, message, details }: LedgerError): string {
  return `"error":${JSON.stringify({ code, message, details }, exactIntegers)}`;
}

function describeUnwritten(error: NodeJS.ErrnoException): LedgerError {
  const code = error.code ?? error.message;
  const known = code === 'EPIPE' ? 'its reader went away' : diskFault(code);
  const reason = known === null ? code : `${known} (${code})`;
  return new LedgerError('unavailable', `the output cannot be written: ${reason}`, {
    details: { system_error: code },
    cause: error,
  });
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

const MAX_CELL = 40;

/** A cell of a list: ids and names may have 256 characters; `--json` has them whole. */
export function shorten(text: string): string {
  return text.length <= MAX_CELL ? text : `${text.slice(0, MAX_CELL - 1)}…`;
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

/** As one word of a shell, for a command that is printed to be pasted. */
export function toShellWord(text: string): string {
  return /^[\w./@%+=:,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** 12345 -> 12,345 */
export function formatCount(count: number | bigint): string {
  return count.toLocaleString('en-US');
}

/** An instant as people read it in every answer, in UTC to the second; `--json` has all of it. */
export function formatInstant(instant: string): string {
  const parsed = parseInstant(instant);
  // Rows of other programs: infinity, before Christ, past 9999.
  return parsed === null ? instant : `${parsed.text.slice(0, 19)}Z`;
}

/** The same, with what stands for none. */
export function formatInstantOr(none: string, instant: string | null): string {
  return instant === null ? none : formatInstant(instant);
}

/** Of a balance, when some of its credit expires next. */
export function formatExpiry(at: string | null): string {
  return at === null ? '' : `; credit expires ${formatInstant(at)}`;
}

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'] as const;

/** 1234567 -> 1.2 MB */
export function formatBytes(bytes: number): string {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const amount = bytes / 1000 ** power;
  return `${amount >= 10 || power === 0 ? Math.round(amount) : amount.toFixed(1)} ${UNITS[power]}`;
}

/** Rounded up, in its largest unit: 90 -> 2 min */
export function formatDuration(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 7200) return `${Math.ceil(seconds / 60)} min`;
  return `${Math.ceil(seconds / 3600)} h`;
}

/** Microdollars as `12.345678 USD`. */
export function formatAmount(amountMicrodollars: number | bigint): string {
  return `${formatUsd(amountMicrodollars)} USD`;
}
