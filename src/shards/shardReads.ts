import { LedgerError } from '../errors.js';
import { isUuid } from '../ids.js';
import type { FoldReport, Ledger, NamedPayer, PendingStatus, UsageReport } from '../ledgerTypes.js';
import { readReportQuery } from '../report/usage/query.js';
import { mergeReadModes } from './mergeReadModes.js';
import { forParts, mergeReports } from './mergeReports.js';
import { askAll } from './scatter.js';
import type { ShardContext } from './shardWrites.js';
import { requireHere } from './standing.js';

type Reads = Pick<
  Ledger,
  | 'ask'
  | 'backlog'
  | 'fold'
  | 'getAverageMonthlyUsageLast3Months'
  | 'getDailyUsage'
  | 'getDailyUsageWithSource'
  | 'getOrganizationBalance'
  | 'getPendingStatus'
  | 'getReadMode'
  | 'getUsageReport'
  | 'getUserBalance'
  | 'keepBudgets'
  | 'settleOwn'
>;

/** Reads of a payer from its shard; what concerns several from each, summed only if all answer. */
export function shardReads({ router, shards, track }: ShardContext): Reads {
  /** What the payer's shard says while the payer is there; of nobody what any ledger says. */
  async function read<T>(payer: NamedPayer, ask: (ledger: Ledger) => Promise<T>): Promise<T> {
    let answered: { answer: T } | undefined;
    try {
      return await router.at(payer, async (ledger) => {
        // Of the shard that was asked last: another one's answer is of a payer who was not there.
        answered = undefined;
        const answer = await ask(ledger);
        answered = { answer };
        await requireHere(ledger, payer);
        return answer;
      });
    } catch (error) {
      const isUnknown =
        error instanceof LedgerError &&
        (error.code === 'unknown_user' || error.code === 'unknown_organization');
      if (isUnknown && answered !== undefined) return answered.answer;
      throw error;
    }
  }

  const payerOf = (query: { kilo_user_id: string; organization_id?: string | null }) =>
    query.organization_id != null && isUuid(query.organization_id)
      ? { organization_id: query.organization_id }
      : { kilo_user_id: query.kilo_user_id };

  /** Of a user with organizations: those of one shard in a snapshot of it, of others each in its own. */
  async function report(query: Parameters<Ledger['getUsageReport']>[0]): Promise<UsageReport> {
    const valid = readReportQuery(query);
    const payer =
      valid.payer.kind === 'user'
        ? { kilo_user_id: valid.payer.id }
        : { organization_id: valid.payer.id };
    if (valid.organizationIds.length === 0) {
      return await read(payer, (ledger) => ledger.getUsageReport(query));
    }
    const of = forParts({ ...query, organization_ids: null });
    const { kilo_user_id: member = null, ...ofOrganization } = of;
    const [own, ...others] = await Promise.all([
      read(payer, (ledger) => ledger.getUsageReport(of)),
      ...[...new Set(valid.organizationIds)].map((organization_id) =>
        read({ organization_id }, (ledger) =>
          ledger.getUsageReport({ ...ofOrganization, organization_id, member }),
        ),
      ),
    ]);
    return mergeReports(query, [own as UsageReport, ...others]);
  }

  const getDailyUsageWithSource: Ledger['getDailyUsageWithSource'] = (query) =>
    track(() => read(payerOf(query), (ledger) => ledger.getDailyUsageWithSource(query)));

  return {
    ask: (payer, run) => track(() => read(payer, run)),
    getAverageMonthlyUsageLast3Months: (query) =>
      track(() =>
        read({ kilo_user_id: query.kilo_user_id }, (ledger) =>
          ledger.getAverageMonthlyUsageLast3Months(query),
        ),
      ),
    getDailyUsage: async (query) => (await getDailyUsageWithSource(query)).days,
    getDailyUsageWithSource,
    getUsageReport: (query) => track(() => report(query)),
    getUserBalance: (id) =>
      track(() => read({ kilo_user_id: id }, (ledger) => ledger.getUserBalance(id))),
    getOrganizationBalance: (id) =>
      track(() => read({ organization_id: id }, (ledger) => ledger.getOrganizationBalance(id))),
    getReadMode: () => mergeReadModes(shards),
    fold: () =>
      track(async () => {
        const reports = await askAll(shards, (ledger) => ledger.fold());
        return reports.reduce<FoldReport>(
          (sum, { drained, remaining }) => ({
            drained: sum.drained + drained,
            remaining: sum.remaining + remaining,
          }),
          { drained: 0, remaining: 0 },
        );
      }),
    getPendingStatus: () =>
      track(async () => sumOf(await askAll(shards, (ledger) => ledger.getPendingStatus()))),
    get backlog() {
      return sumOf(shards.flatMap(({ ledger }) => ledger?.backlog ?? []));
    },
    keepBudgets: async () => {
      await askAll(shards, (ledger) => ledger.keepBudgets());
    },
    settleOwn: async () => {
      await askAll(shards, (ledger) => ledger.settleOwn());
    },
  };
}

function sumOf(parts: readonly PendingStatus[]): PendingStatus {
  return {
    depth: parts.reduce((sum, { depth }) => sum + depth, 0),
    oldestAgeMs: Math.max(0, ...parts.map(({ oldestAgeMs }) => oldestAgeMs)),
  };
}
