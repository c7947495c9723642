import { daysBetween } from '../days.js';
import { LedgerError } from '../errors.js';
import type { UsageEvent } from '../record/types.js';
import { ImportNotes } from './importNotes.js';
import { type FileTally, type ImportReport, ImportTally } from './importReport.js';
import { DamagedInput, openInput } from './openInput.js';
import { createReader, type ReaderOptions } from './readers.js';
import { readLines } from './readLines.js';
import { idOfKey, RowIds } from './rowIds.js';
import { dayOfEvent, shiftEvent } from './shiftDays.js';
import type { EventSink } from './sinks.js';
import type { ForeignFormat, ImportedLine, ImportFormat, LineCleaning } from './types.js';

/** Events in one call of the sink. */
const BATCH_EVENTS = 500;
/** Batches in flight: enough to keep the database busy, few enough to bound memory. */
const BATCHES_IN_FLIGHT = 4;

const FOREIGN_FORMATS: ReadonlySet<ImportFormat> = new Set<ForeignFormat>([
  'litellm',
  'openrouter',
]);

export interface ImportOptions extends ReaderOptions {
  /** Paths; `-` is standard input. */
  files: readonly ImportFile[];
  sink: EventSink;
  /** UTC day to which the last day of these files is moved; reads them twice. */
  shiftTo?: string;
  /** Bytes read so far, of all files, as they are stored. */
  onProgress?: (bytes: number) => void;
  stdin?: AsyncIterable<Buffer>;
  /** Ends the import after the lines that are on their way. */
  signal?: AbortSignal;
}

export interface ImportFile {
  path: string;
  format: ImportFormat;
}

/**
 * Reads usage files into the sink, in bounded memory. A line that cannot be recorded is rejected
 * with its number and reason, and the others are kept. An event without an id gets one from what its
 * source calls it, else from its content and the number of its occurrence in the file (`RowIds`):
 * a second run records nothing, and a file that grew only what is new (I3).
 * @throws LedgerError `unavailable` when the database is gone; what was recorded stays, and
 * running the import again takes up where it ended
 */
export async function importFiles(options: ImportOptions): Promise<ImportReport> {
  const { files } = options;
  const shiftByDays = options.shiftTo === undefined ? 0 : await findShift(files, options);
  const tally = new ImportTally();
  const notes = files.some(({ format }) => FOREIGN_FORMATS.has(format)) ? new ImportNotes() : null;
  let bytes = 0;
  for (const file of files) {
    if (options.signal?.aborted) break;
    const fileTally = tally.beginFile(file.path, file.format);
    const cleaning: LineCleaning = { nulBytesRemoved: 0 };
    const chunks = openInput(
      file.path,
      (count) => {
        bytes += count;
        options.onProgress?.(bytes);
      },
      options.stdin,
    );
    const reader = createReader(file.format, options, {
      shiftByDays,
      notes: notes ?? new ImportNotes(),
    });
    const lines = reader(readLines(chunks, cleaning));
    const { sink, signal } = options;
    await importFile({ file, lines, shiftByDays, fileTally, sink, signal });
    tally.nulBytesRemoved += cleaning.nulBytesRemoved;
  }
  return tally.report(notes);
}

interface FileRun {
  file: ImportFile;
  lines: AsyncIterable<ImportedLine>;
  shiftByDays: number;
  fileTally: FileTally;
  sink: EventSink;
  signal: AbortSignal | undefined;
}

async function importFile(run: FileRun): Promise<void> {
  const { file, lines, shiftByDays, fileTally, sink, signal } = run;
  const inFlight = new Set<Promise<void>>();
  let failure: Error | null = null;
  const send = async (batch: NumberedEvent[]) => {
    while (inFlight.size >= BATCHES_IN_FLIGHT) await Promise.race(inFlight);
    if (failure !== null || batch.length === 0) return;
    const sent = sendBatch(batch, sink, fileTally)
      .catch((error: Error) => {
        failure ??= error;
      })
      .finally(() => inFlight.delete(sent));
    inFlight.add(sent);
  };

  const rowIds = new RowIds();
  let batch: NumberedEvent[] = [];
  for await (const item of untilDamage(lines)) {
    if ('problem' in item) {
      if (item.fatal !== true) fileTally.line();
      fileTally.reject(item.line, 'invalid_event', item.problem);
      continue;
    }
    fileTally.line();
    try {
      const own = item.event.id ?? undefined;
      const id = own ?? findId(item, file.format, rowIds);
      const event = { ...shiftEvent(item.event, shiftByDays), id };
      batch.push({ line: item.line, event, isOwnId: own !== undefined });
    } catch (error) {
      if (!(error instanceof LedgerError)) throw error;
      fileTally.reject(item.line, error.code, error.message);
    }
    if (batch.length === BATCH_EVENTS) {
      await send(batch);
      batch = [];
      if (failure !== null || signal?.aborted) break;
    }
  }
  await send(batch);
  await Promise.all(inFlight);
  if (failure !== null) throw asInterrupted(failure);
}

type FoundLine = Extract<ImportedLine, { event: UsageEvent }>;

/** @throws LedgerError `invalid_event` */
function findId({ event, key }: FoundLine, format: ImportFormat, rowIds: RowIds): string {
  return key === undefined ? rowIds.idOf(event) : idOfKey(`${format} row`, key);
}

/** Lines up to where compressed input is damaged; that is one more problem. */
async function* untilDamage(lines: AsyncIterable<ImportedLine>): AsyncGenerator<ImportedLine> {
  let last = 0;
  try {
    for await (const line of lines) {
      last = line.line;
      yield line;
    }
  } catch (error) {
    if (!(error instanceof DamagedInput)) throw error;
    yield { line: last + 1, problem: error.message };
  }
}

/** The database went away: says that nothing is lost. */
function asInterrupted(failure: Error): Error {
  if (!(failure instanceof LedgerError) || failure.code !== 'unavailable') return failure;
  return new LedgerError(
    'unavailable',
    `${failure.message}; what was recorded stays: run the import again to go on`,
    { details: { ...failure.details }, cause: failure },
  );
}

interface NumberedEvent {
  line: number;
  event: UsageEvent;
  /** The line has an id, and it was not made of the row. */
  isOwnId: boolean;
}

/** Of a row that its source, or what is read into it, has changed. */
const CHANGED_ROW =
  'the row was recorded before with another cost, time, user, organization, model or token count: ' +
  'what is in the ledger stays; book a difference with `adjust`';

async function sendBatch(
  batch: readonly NumberedEvent[],
  sink: EventSink,
  fileTally: FileTally,
): Promise<void> {
  const outcomes = await sink(batch.map(({ event }) => event));
  for (const [index, { line, event, isOwnId }] of batch.entries()) {
    const outcome = outcomes[index];
    if (outcome === undefined) throw new Error('the sink gave fewer outcomes than events');
    if (outcome.status === 'rejected') {
      const isChanged = outcome.code === 'idempotency_conflict' && !isOwnId;
      fileTally.reject(line, outcome.code, isChanged ? CHANGED_ROW : outcome.reason);
    } else {
      fileTally.accept(outcome.status, event.cost);
    }
  }
}

/** Whole days from the last day in the files to the day asked for. */
async function findShift(files: readonly ImportFile[], options: ImportOptions): Promise<number> {
  const listPrice = { ...options.azure.listPrice, priceRequest: () => 0 };
  const scan = { ...options, azure: { ...options.azure, listPrice } };
  let lastDay: string | null = null;
  for (const file of files) {
    const lines = readLines(openInput(file.path), { nulBytesRemoved: 0 });
    const reader = createReader(file.format, scan, { shiftByDays: 0, notes: new ImportNotes() });
    for await (const item of untilDamage(reader(lines))) {
      const day = 'event' in item ? dayOfEvent(item.event) : null;
      if (day !== null && (lastDay === null || day > lastDay)) lastDay = day;
    }
  }
  return lastDay === null ? 0 : daysBetween(lastDay, options.shiftTo ?? lastDay);
}
