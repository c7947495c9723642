import type { HoldRequest, HoldResult, ReleaseResult } from '../budgets/types.js';
import { toLedgerError } from '../db/sqlstate.js';
import { isElsewhere, LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import type { Ledger, NamedPayer } from '../ledgerTypes.js';
import type { Metrics } from '../metrics.js';
import { recordEach } from '../record/recordEach.js';
import { introduceUser } from './introduce.js';
import type { Router } from './router.js';
import { askEach } from './scatter.js';
import type { Shard } from './shard.js';
import { requireHere } from './standing.js';

export interface ShardContext {
  router: Router;
  shards: readonly Shard[];
  metrics: Metrics;
  /** A call that `close` waits for. */
  track: <T>(run: () => Promise<T>) => Promise<T>;
}

type Writes = Pick<
  Ledger,
  | 'recordUsage'
  | 'recordUsageBatch'
  | 'recordExaUsage'
  | 'hold'
  | 'holdForClient'
  | 'settle'
  | 'extend'
  | 'release'
  | 'findHolder'
>;

/** What this process held, by the hold's id; forgetting costs a look at each shard. */
const MAX_REMEMBERED = 100_000;

/** Writes: each to the shard of its payer, where it is what it is on any ledger. */
export function shardWrites({ router, shards, metrics, track }: ShardContext): Writes {
  const holders = new Map<string, NamedPayer>();

  /** Counts what reached no shard: a shard counts its own. */
  async function counted<T>(kind: string, write: (reached: () => void) => Promise<T>): Promise<T> {
    let hasReached = false;
    try {
      return await write(() => {
        hasReached = true;
      });
    } catch (error) {
      const ledgerError = toLedgerError(error);
      if (!hasReached) {
        metrics.events.inc({ kind, outcome: 'rejected' });
        metrics.rejections.inc({ code: ledgerError.code });
      }
      throw ledgerError;
    }
  }

  /**
   * On the payer's shard; a user who acts for an organization there for the first time is made known to it.
   * What names no payer is refused by whatever shard, as by any ledger.
   */
  function write<T>(
    kind: string,
    payer: NamedPayer,
    send: (ledger: Ledger) => Promise<T>,
  ): Promise<T> {
    return track(() =>
      counted(kind, async (reached) => {
        const cleaned = cleanPayer(payer);
        const run = (ledger: Ledger) => {
          reached();
          return send(ledger);
        };
        if (cleaned === null) {
          const open = shards.find(({ ledger }) => ledger !== null)?.ledger;
          return await run(open ?? (await (shards[0] as Shard).open()));
        }
        try {
          return await router.at(cleaned, run);
        } catch (error) {
          if (!isStranger(error, cleaned)) throw error;
          const { kilo_user_id: userId } = cleaned;
          await router.at(cleaned, (ledger) => introduceUser(router, userId, ledger));
          return await router.at(cleaned, run);
        }
      }),
    );
  }

  function remember(id: string, payer: NamedPayer): void {
    if (holders.size >= MAX_REMEMBERED) holders.clear();
    holders.set(id, { kilo_user_id: payer.kilo_user_id, organization_id: payer.organization_id });
  }

  async function held(request: HoldRequest, hold: Promise<HoldResult>): Promise<HoldResult> {
    const result = await hold;
    if (result.status === 'granted') remember(result.id, request);
    return result;
  }

  /** By the hold's id, whoever pays. */
  async function onHold<T>(holdId: string, run: (ledger: Ledger) => Promise<T>): Promise<T> {
    const id = readUuid('hold_id', holdId);
    const payer = holders.get(id) ?? (await findHolder(id));
    if (payer === null) {
      // Whoever settled it may know.
      return await anyOf(run, 'not_found');
    }
    return await router.at(payer, (ledger) => withHold(payer, ledger, run));
  }

  /** Each in turn, until one does not answer with `code`; that of the last else. */
  async function anyOf<T>(run: (ledger: Ledger) => Promise<T>, code: string): Promise<T> {
    let refusal: unknown;
    for (const shard of shards) {
      try {
        return await run(shard.ledger ?? (await shard.open()));
      } catch (error) {
        if (!(error instanceof LedgerError) || error.code !== code) throw error;
        refusal = error;
      }
    }
    throw refusal;
  }

  const findHolder: Ledger['findHolder'] = async (holdId) => {
    const parts = await askEach(shards, (ledger) => ledger.findHolder(holdId));
    const found = parts.find(({ answer }) => answer != null)?.answer;
    if (found != null) return found;
    const away = parts.find(({ error }) => error !== undefined);
    if (away?.error !== undefined) throw away.error;
    return null;
  };

  const recordUsage = ((event, how) =>
    write('usage', event, (ledger) =>
      how === undefined ? ledger.recordUsage(event) : ledger.recordUsage(event, how),
    )) as Ledger['recordUsage'];

  const recordUsageBatch = ((events, how) =>
    recordEach(events, (event) =>
      how === undefined ? recordUsage(event) : recordUsage(event, how),
    )) as Ledger['recordUsageBatch'];

  return {
    recordUsage,
    recordUsageBatch,
    recordExaUsage: (usage) => write('exa', usage, (ledger) => ledger.recordExaUsage(usage)),
    hold: (request, intent) =>
      held(
        request,
        write('hold', request, (ledger) => ledger.hold(request, intent)),
      ),
    holdForClient: (request) =>
      held(
        request,
        write('hold', request, (ledger) => ledger.holdForClient(request)),
      ),
    settle: async (holdId, event) => {
      const result = await write('usage', event, (ledger) =>
        withHold(event, ledger, () => ledger.settle(holdId, event)),
      );
      holders.delete(holdId.toLowerCase());
      return result;
    },
    extend: (holdId, amount) =>
      track(() => onHold<HoldResult>(holdId, (ledger) => ledger.extend(holdId, amount))),
    release: (holdId) =>
      track(async () => {
        const result = await onHold<ReleaseResult>(holdId, (ledger) => ledger.release(holdId));
        holders.delete(holdId.toLowerCase());
        return result;
      }),
    findHolder: (holdId) => track(() => findHolder(holdId)),
  };
}

/** A hold that is not there may have left with its payer: then it is looked for where they are. */
async function withHold<T>(
  payer: NamedPayer,
  ledger: Ledger,
  run: (ledger: Ledger) => Promise<T>,
): Promise<T> {
  try {
    return await run(ledger);
  } catch (error) {
    if (error instanceof LedgerError && error.code === 'not_found') {
      await requireHere(ledger, payer);
    }
    throw error;
  }
}

interface CleanPayer {
  kilo_user_id: string;
  organization_id: string | null;
}

/** As the ledger will clean it: of a NUL byte it makes nothing. Null: it names no payer. */
function cleanPayer(payer: NamedPayer): CleanPayer | null {
  const { kilo_user_id: user, organization_id: organization = null } = payer ?? {};
  if (typeof user !== 'string' || user === '') return null;
  if (organization !== null && typeof organization !== 'string') return null;
  return {
    kilo_user_id: user.includes('\0') ? user.replaceAll('\0', '') : user,
    organization_id: organization,
  };
}

/** The organization is here, the user is not: they may be on another shard. */
function isStranger(error: unknown, { organization_id }: CleanPayer): boolean {
  return (
    organization_id !== null &&
    error instanceof LedgerError &&
    error.code === 'unknown_user' &&
    !isElsewhere(error)
  );
}
