/** Where a ledger tells what happens in the background; a pino logger fits. */
export interface Log {
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

export const SILENT: Log = { warn: () => {}, error: () => {} };
