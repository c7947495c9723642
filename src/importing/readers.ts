import { LedgerError } from '../errors.js';
import { assignPayer } from './azureAccounts.js';
import type { ImportNotes } from './importNotes.js';
import type { ListPrice } from './listPrice.js';
import { createAzureReader } from './readAzureLlm.js';
import { readCsv } from './readCsv.js';
import { readJsonl } from './readJsonl.js';
import { createLitellmReader, type ForeignPayer } from './readLitellm.js';
import { createOpenrouterReader } from './readOpenrouter.js';
import type { EventReader, ImportFormat } from './types.js';

export interface ReaderOptions {
  /** For `azure-llm`. */
  azure: { users: number; organizations: number; listPrice: ListPrice };
  /** For `litellm` and `openrouter`; the latter needs a user. */
  payer?: ForeignPayer;
}

interface ReaderContext {
  /** Whole days. */
  shiftByDays: number;
  notes: ImportNotes;
}

/** What reads a file of a format. @throws LedgerError `invalid_request` when a payer is missing */
export function createReader(
  format: ImportFormat,
  options: ReaderOptions,
  { shiftByDays, notes }: ReaderContext,
): EventReader {
  switch (format) {
    case 'jsonl':
      return readJsonl;
    case 'csv':
      return readCsv;
    case 'azure-llm':
      return createAzureReader({
        assignPayer: (hash) => assignPayer(hash, options.azure),
        listPrice: options.azure.listPrice,
        shiftByDays,
      });
    case 'litellm':
      return createLitellmReader(options.payer ?? {}, notes);
    case 'openrouter':
      return createOpenrouterReader(requireUser(options.payer), notes);
  }
}

function requireUser(payer: ForeignPayer = {}): ForeignPayer & { kiloUserId: string } {
  if (payer.kiloUserId !== undefined) return { ...payer, kiloUserId: payer.kiloUserId };
  throw new LedgerError('invalid_request', 'an OpenRouter export names no user: whose is it?', {
    details: { field: 'kilo_user_id' },
  });
}
