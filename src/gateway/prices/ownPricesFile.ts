import { readFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { LedgerError } from '../../errors.js';
import { type OwnPrices, parseOwnPrices } from './ownPrices.js';

const DEFAULT_POLL_INTERVAL_MS = 5_000;

interface FileOptions {
  pollIntervalMs?: number;
  onReloadError?: (error: Error) => void;
}

/** The prices file: read at the start, and again when it changes; a wrong one changes nothing. */
export class OwnPricesFile {
  readonly #path: string;
  readonly #timer: NodeJS.Timeout;
  #seen: string | null = null;
  current: OwnPrices;

  /** @throws LedgerError `invalid_request` */
  constructor(path: string, { pollIntervalMs, onReloadError }: FileOptions) {
    this.#path = path;
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new LedgerError(
        'invalid_request',
        `MICRODOLLAR_PRICES_FILE: the file cannot be read (${code})`,
        { cause: error },
      );
    }
    this.current = parseOwnPrices(text);
    this.#timer = setInterval(() => {
      this.reload().catch((error: Error) => onReloadError?.(error));
    }, pollIntervalMs ?? DEFAULT_POLL_INTERVAL_MS);
    this.#timer.unref();
  }

  /** @throws LedgerError, or the file system's error, once per change of the file */
  async reload(): Promise<boolean> {
    const found = await stat(this.#path).catch((error: Error) => error);
    const isGone = found instanceof Error;
    const seen = isGone ? found.message : `${found.mtimeMs} ${found.size} ${found.ino}`;
    if (seen === this.#seen) return false;
    this.#seen = seen;
    if (isGone) throw found;
    const next = parseOwnPrices(await readFile(this.#path, 'utf8'));
    const isNew = JSON.stringify(next) !== JSON.stringify(this.current);
    this.current = next;
    return isNew;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
