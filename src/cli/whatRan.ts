import { LedgerError } from '../errors.js';
import { type Output, toCommandError } from './output.js';

/** What a job did, as fields of a document and as text. */
export interface WhatRan {
  document: Record<string, unknown>;
  text: string;
}

/**
 * Runs a job whose work stays when it fails: then what it did is told with the failure, on stdout or,
 * with `--json`, in the details of the error.
 * @throws LedgerError the failure
 */
export async function tellingWhatRan<T>(
  output: Output,
  describe: () => WhatRan,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { code, message, details } = toCommandError(error);
    const { document, text } = describe();
    if (!output.json && text !== '') output.streams.stdout.write(`${text}\n`);
    throw new LedgerError(code, message, { details: { ...details, ...document }, cause: error });
  }
}
