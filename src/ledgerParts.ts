import type { Ledger, LedgerParts } from './ledgerTypes.js';

/** A ledger that is not in parts: of whatever payer, it is this one. */
export function alone(ledger: Omit<Ledger, keyof LedgerParts<Ledger> | 'ask'>): Ledger {
  const whole = ledger as Ledger;
  // Assigned to it, not spread: it has getters.
  return Object.assign(whole, {
    of: async () => whole,
    at: <T>(_payer: unknown, run: (ledger: Ledger) => Promise<T>) => run(whole),
    ask: <T>(_payer: unknown, read: (ledger: Ledger) => Promise<T>) => read(whole),
    parts: [{ name: null, ledger: whole }],
  } satisfies LedgerParts<Ledger> & Pick<Ledger, 'ask'>);
}
