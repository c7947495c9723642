import { uuidFromHash } from '../ids.js';
import { parseInstant } from '../instant.js';
import type { UsageEvent } from '../record/types.js';
import type { AzurePayer } from './azureAccounts.js';
import { readCsvRecords } from './csvRecords.js';
import type { ListPrice } from './listPrice.js';
import { Occurrences } from './occurrences.js';
import { hashOccurrence } from './rowIds.js';
import type { EventReader, ImportedLine } from './types.js';

const HEADER = ['TIMESTAMP', 'ContextTokens', 'GeneratedTokens'];
const TIMESTAMP = /^(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?)(?:Z|\+00:00)?$/;
const TOKENS = /^\d{1,15}$/;

export interface AzureReaderOptions {
  /** By the hash of the row and its occurrence, of which its id is made too. */
  assignPayer(hash: Buffer): AzurePayer;
  listPrice: ListPrice;
  /** Whole days by which the trace is moved: prices are those of the day it is moved to. */
  shiftByDays: number;
}

/**
 * The Azure LLM inference trace: TIMESTAMP (UTC, 100 ns, cut to microseconds), ContextTokens,
 * GeneratedTokens. It names no payer (assigned by a stated rule) and no cost (list price).
 */
export function createAzureReader(options: AzureReaderOptions): EventReader {
  return async function* readAzureLlm(lines) {
    let hasHeader = false;
    const occurrences = new Occurrences();
    for await (const record of readCsvRecords(lines)) {
      if (!hasHeader) {
        const names = 'problem' in record ? [] : record.cells.map((cell) => cell.trim());
        if (names.join() !== HEADER.join()) {
          const problem = `is not the header of an Azure LLM trace: expected ${HEADER.join(',')}`;
          yield { line: record.line, problem, fatal: true };
          return;
        }
        hasHeader = true;
      } else if ('problem' in record) {
        yield record;
      } else {
        yield toImportedLine(record.line, record.cells, occurrences, options);
      }
    }
    if (!hasHeader) {
      yield { line: 1, problem: `is empty: expected the header ${HEADER.join(',')}`, fatal: true };
    }
  };
}

function toImportedLine(
  line: number,
  cells: readonly string[],
  occurrences: Occurrences,
  options: AzureReaderOptions,
): ImportedLine {
  if (cells.length !== HEADER.length) {
    return { line, problem: `has ${cells.length} cells, the header ${HEADER.length}` };
  }
  const [timestamp = '', contextTokens = '', generatedTokens = ''] = cells;
  const match = TIMESTAMP.exec(timestamp);
  const instant = match === null ? null : parseInstant(`${match[1]}T${match[2]}Z`);
  if (instant === null) {
    return { line, problem: 'TIMESTAMP is not a UTC time like 2023-11-16 18:17:03.9799600' };
  }
  if (!TOKENS.test(contextTokens)) return { line, problem: 'ContextTokens is not a whole number' };
  if (!TOKENS.test(generatedTokens)) {
    return { line, problem: 'GeneratedTokens is not a whole number' };
  }
  const inputTokens = Number(contextTokens);
  const outputTokens = Number(generatedTokens);
  const at = new Date(instant.epochMs + options.shiftByDays * 86_400_000);
  const content = `${match?.[1]} ${trimZeros(match?.[2] ?? '')},${inputTokens},${outputTokens}`;
  const hash = hashOccurrence(content, occurrences);
  const event: UsageEvent = {
    id: uuidFromHash(hash),
    ...options.assignPayer(hash),
    provider: options.listPrice.provider,
    model: options.listPrice.model,
    requested_model: options.listPrice.model,
    cost: options.listPrice.priceRequest({ inputTokens, outputTokens, at }),
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    created_at: instant.text,
    metadata: { price_source: 'genai-prices' },
  };
  return { line, event };
}

/** A time of day without the zeros that end its fraction: programs write different numbers of them. */
function trimZeros(time: string): string {
  return time.includes('.') ? time.replace(/\.?0+$/, '') : time;
}
