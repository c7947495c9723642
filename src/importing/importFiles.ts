import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { daysBetween } from '../days.js';
import { LedgerError } from '../errors.js';
import type { UsageEvent } from '../record/types.js';
import { assignPayer } from './azureAccounts.js';
import { type FileTally, type ImportReport, ImportTally } from './importReport.js';
import { digestFile, lineId } from './lineIds.js';
import type { ListPrice } from './listPrice.js';
import { createAzureReader } from './readAzureLlm.js';
import { readCsv } from './readCsv.js';
import { readJsonl } from './readJsonl.js';
import { readLines } from './readLines.js';
import { dayOfEvent, shiftEvent } from './shiftDays.js';
import type { EventSink } from './sinks.js';
import type { EventReader, ImportFormat, LineCleaning } from './types.js';

/** Events in one call of the sink. */
const BATCH_EVENTS = 500;
/** Batches in flight: enough to keep the database busy, few enough to bound memory. */
const BATCHES_IN_FLIGHT = 4;

export interface ImportOptions {
  files: readonly { path: string; format: ImportFormat }[];
  sink: EventSink;
  /** For `azure-llm`. */
  azure: { users: number; organizations: number; listPrice: ListPrice };
  /** UTC day to which the last day of these files is moved. */
  shiftTo?: string;
  /** Bytes read so far, of all files. */
  onProgress?: (bytes: number) => void;
}

interface ImportFile {
  path: string;
  format: ImportFormat;
  digest: string;
  modifiedAtMs: number;
}

/**
 * Reads usage files into the sink, in bounded memory. A line that cannot be recorded is rejected
 * with its number and reason, and the others are kept. An event without an id gets one from the
 * file's digest and its line number, so a second run records nothing (I3).
 * @throws LedgerError `unavailable` when the database is gone; what was recorded stays, and
 * running the import again takes up where it ended
 */
export async function importFiles(options: ImportOptions): Promise<ImportReport> {
  const files: ImportFile[] = [];
  for (const file of options.files) {
    const { mtimeMs } = await stat(file.path);
    files.push({ ...file, digest: await digestFile(file.path), modifiedAtMs: mtimeMs });
  }
  const shiftByDays = options.shiftTo === undefined ? 0 : await findShift(files, options);
  const tally = new ImportTally();
  let bytes = 0;
  for (const file of files) {
    const fileTally = tally.beginFile(file.path, file.format);
    const cleaning: LineCleaning = { nulBytesRemoved: 0 };
    const onBytes = (count: number) => {
      bytes += count;
      options.onProgress?.(bytes);
    };
    await importFile({ file, shiftByDays, fileTally, cleaning, onBytes, options });
    tally.nulBytesRemoved += cleaning.nulBytesRemoved;
    await requireUnchanged(file);
  }
  return tally.report();
}

interface FileRun {
  file: ImportFile;
  shiftByDays: number;
  fileTally: FileTally;
  cleaning: LineCleaning;
  onBytes: (count: number) => void;
  options: ImportOptions;
}

async function importFile(run: FileRun): Promise<void> {
  const { file, fileTally, options } = run;
  const inFlight = new Set<Promise<void>>();
  let failure: Error | null = null;
  const send = async (batch: NumberedEvent[]) => {
    while (inFlight.size >= BATCHES_IN_FLIGHT) await Promise.race(inFlight);
    if (failure !== null || batch.length === 0) return;
    const sent = sendBatch(batch, options.sink, fileTally)
      .catch((error: Error) => {
        failure ??= error;
      })
      .finally(() => inFlight.delete(sent));
    inFlight.add(sent);
  };

  const chunks = countBytes(
    createReadStream(file.path, { highWaterMark: 256 * 1024 }),
    run.onBytes,
  );
  const reader = createReader(file, options, run.shiftByDays);
  let batch: NumberedEvent[] = [];
  for await (const item of reader(readLines(chunks, run.cleaning))) {
    if ('problem' in item) {
      if (item.fatal !== true) fileTally.line();
      fileTally.reject(item.line, 'invalid_event', item.problem);
      continue;
    }
    fileTally.line();
    const id = item.event.id;
    const hasId = id !== undefined && id !== null;
    const event = shiftEvent(item.event, run.shiftByDays);
    batch.push({
      line: item.line,
      event: hasId ? event : { ...event, id: lineId(file.digest, item.line) },
    });
    if (batch.length === BATCH_EVENTS) {
      await send(batch);
      batch = [];
      if (failure !== null) break;
    }
  }
  await send(batch);
  await Promise.all(inFlight);
  if (failure !== null) throw asInterrupted(failure);
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
}

async function sendBatch(
  batch: readonly NumberedEvent[],
  sink: EventSink,
  fileTally: FileTally,
): Promise<void> {
  const outcomes = await sink(batch.map(({ event }) => event));
  for (const [index, { line, event }] of batch.entries()) {
    const outcome = outcomes[index];
    if (outcome === undefined) throw new Error('the sink gave fewer outcomes than events');
    if (outcome.status === 'rejected') fileTally.reject(line, outcome.code, outcome.reason);
    else fileTally.accept(outcome.status, event.cost);
  }
}

function createReader(file: ImportFile, options: ImportOptions, shiftByDays: number): EventReader {
  switch (file.format) {
    case 'jsonl':
      return readJsonl;
    case 'csv':
      return readCsv;
    case 'azure-llm':
      return createAzureReader({
        assignPayer: (line) => assignPayer(file.digest, line, options.azure),
        listPrice: options.azure.listPrice,
        shiftByDays,
      });
  }
}

/** Whole days from the last day in the files to the day asked for. */
async function findShift(files: readonly ImportFile[], options: ImportOptions): Promise<number> {
  const listPrice = { ...options.azure.listPrice, priceRequest: () => 0 };
  const scan = { ...options, azure: { ...options.azure, listPrice } };
  let lastDay: string | null = null;
  for (const file of files) {
    const lines = readLines(createReadStream(file.path), { nulBytesRemoved: 0 });
    for await (const item of createReader(file, scan, 0)(lines)) {
      const day = 'event' in item ? dayOfEvent(item.event) : null;
      if (day !== null && (lastDay === null || day > lastDay)) lastDay = day;
    }
  }
  return lastDay === null ? 0 : daysBetween(lastDay, options.shiftTo ?? lastDay);
}

/** Ids come from the content as it was digested. */
async function requireUnchanged(file: ImportFile): Promise<void> {
  const { mtimeMs } = await stat(file.path);
  if (mtimeMs === file.modifiedAtMs) return;
  throw new LedgerError('invalid_request', `${file.path} changed while it was read`, {
    details: { file: file.path },
  });
}

async function* countBytes(
  chunks: AsyncIterable<Buffer>,
  onBytes: (count: number) => void,
): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    yield chunk;
    onBytes(chunk.length);
  }
}
