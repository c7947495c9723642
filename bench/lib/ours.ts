import { createLedger } from '../../src/ledger.js';
import type { LedgerOptions } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { checkFolded } from '../../test/support/checkInvariants.js';
import type { ApproachDefinition } from './approach.js';
import { CONNECTIONS, openPool } from './baselines/statements.js';
import { ledgerDifferences } from './baselines/totals.js';

/** Callers in flight where a statement carries many events. */
const GROUPED_CALLERS = 256;

/** The ledger through its public interface, with its fold running. */
function throughLedger(
  name: string,
  label: string,
  callers: number,
  options: Partial<LedgerOptions>,
  asksBalance = true,
): ApproachDefinition {
  return {
    name,
    label,
    kind: 'ours',
    caveat: '',
    callers,
    async open({ url, admin }) {
      const ledger = await createLedger({
        databaseUrl: url,
        poolSize: CONNECTIONS,
        lockTimeoutMs: 60_000,
        statementTimeoutMs: 120_000,
        ...options,
      });
      let maxBacklog = 0;
      return {
        async write([event]) {
          if (!event) return;
          if (asksBalance) await ledger.recordUsage(event);
          else await ledger.recordUsage(event, { balance: false });
        },
        async settle() {
          maxBacklog = Math.max(maxBacklog, ledger.backlog.depth);
          await ledger.settleOwn();
        },
        notes: () => ({ 'unsettled rows at the end of a slice, at most': maxBacklog }),
        async differences() {
          await ledger.fold();
          return [...(await ledgerDifferences(admin)), ...(await checkFolded(admin))];
        },
        close: () => ledger.close(),
      };
    },
  };
}

export const oneEvent = throughLedger('ours', 'microdollar, one event a statement', CONNECTIONS, {
  groupCommit: false,
});
export const append = throughLedger(
  'ours-append',
  'microdollar, one insert (no balance)',
  CONNECTIONS,
  { groupCommit: false },
  false,
);
export const groupCommit = throughLedger(
  'ours-group-commit',
  'microdollar, group commit',
  GROUPED_CALLERS,
  {},
);

/** A host that only ever writes on a pool of its own; nothing else runs. */
export const hostPool: ApproachDefinition = {
  name: 'ours-host-pool',
  label: "microdollar, on a host's pool alone",
  kind: 'ours',
  caveat: '',
  callers: CONNECTIONS,
  async open({ url, admin }) {
    const pool = openPool(url);
    return {
      async write([event]) {
        if (!event) return;
        const { metadata, ...core } = event;
        await insertUsageAndMetadataWithBalanceUpdate(pool, core, metadata);
      },
      differences: () => ledgerDifferences(admin),
      close: () => pool.end(),
    };
  },
};
