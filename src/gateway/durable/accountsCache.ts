import type { Pool } from 'pg';
import { hashApiKey } from '../../accounts/authenticate.js';
import { TtlCache } from '../../accounts/ttlCache.js';
import { queryOnPool } from '../../db/query.js';
import { elsewhere, LedgerError } from '../../errors.js';
import type { Ledger } from '../../ledgerTypes.js';
import { authenticateKey } from '../../shards/authenticateKey.js';
import { isOrganizationMember } from '../../shards/memberships.js';
import type { DatabaseGate } from './databaseGate.js';
import { toLedgerError } from './failures.js';
import { payerKey } from './inFlight.js';
import type { AccountsCache, Admission, GatewayPrincipal, Payer } from './types.js';

export interface AccountsCacheOptions {
  ledger: Ledger;
  gate: DatabaseGate;
  /** False behind a pooler in transaction mode. Default true. */
  preparedStatements?: boolean;
  /** A key or membership seen this recently is trusted without the database. Default 15 min. */
  maxKeyAgeMs?: number;
  /** A balance read this recently, less what was spent since. Default 5 min. */
  maxBalanceAgeMs?: number;
  /** With the database: how old a positive balance may be. Default 250 ms. */
  balanceFreshMs?: number;
  /** The same of one that is far from used up; the next look is made beside the request. Default 1 s. */
  farBalanceFreshMs?: number;
  /** Monotonic, ms. */
  clock?: () => number;
}

/** A payer with nothing left is looked up again at most this often: a top-up is seen as soon. */
const REFUSAL_FRESH_MS = 100;
/** After the request whose balance is far from used up. */
const LOOK_BESIDE_MS = 20;
const MAX_ENTRIES = 20_000;

interface Balance {
  remainingMicrodollars: number;
  hasBudgets: boolean;
  readAtMs: number;
  /** `spent` when the read began. */
  spentBefore: number;
}

interface PayerEntry {
  balance: Balance | null;
  /** By this process, ever, in the database, microdollars. */
  spent: number;
  /** In this process's journal now: no read of the database knows of it. */
  journaled: number;
  reading: Promise<Balance> | null;
  /** It will be read in a moment. */
  isDue: boolean;
}

/** Accounts as the gateway needs them: exact with the database, of a stated age without it. */
export class Accounts implements AccountsCache {
  readonly #options: Required<AccountsCacheOptions>;
  readonly #keys: TtlCache<GatewayPrincipal>;
  readonly #members: TtlCache<true>;
  readonly #payers: TtlCache<PayerEntry>;

  constructor(options: AccountsCacheOptions) {
    this.#options = {
      maxKeyAgeMs: 15 * 60_000,
      maxBalanceAgeMs: 5 * 60_000,
      balanceFreshMs: 250,
      farBalanceFreshMs: 1_000,
      preparedStatements: true,
      clock: () => performance.now(),
      ...options,
    };
    const { clock } = this.#options;
    this.#keys = new TtlCache(MAX_ENTRIES, clock);
    this.#members = new TtlCache(MAX_ENTRIES, clock);
    this.#payers = new TtlCache(MAX_ENTRIES, clock);
  }

  async authenticate(key: string): Promise<GatewayPrincipal> {
    const { ledger, maxKeyAgeMs } = this.#options;
    const hash = hashApiKey(key);
    return this.#withFallback(
      async () => {
        const identity = await authenticateKey(ledger, key);
        if (identity === null) {
          forget(this.#keys, hash);
          throw new LedgerError(
            'unauthorized',
            "the key is wrong or was revoked; send a user's key of this gateway (key create --user), " +
              'neither its admin key nor one of a provider',
          );
        }
        const principal: GatewayPrincipal = {
          keyId: identity.id,
          kiloUserId: identity.kilo_user_id,
          organizationId: identity.organization_id,
          scopes: new Set(identity.scopes),
          hasBudgets: identity.has_budgets,
        };
        this.#keys.set(hash, principal, maxKeyAgeMs);
        return principal;
      },
      () => this.#keys.get(hash),
      `this key was not seen in the last ${maxKeyAgeMs / 1000} s`,
    );
  }

  async isMember(organizationId: string, kiloUserId: string): Promise<boolean> {
    const { ledger, maxKeyAgeMs } = this.#options;
    const membership = `${organizationId.toLowerCase()}|${kiloUserId}`;
    return this.#withFallback(
      async () => {
        const isMember = await isOrganizationMember(ledger, organizationId, kiloUserId);
        if (isMember) this.#members.set(membership, true, maxKeyAgeMs);
        else forget(this.#members, membership);
        return isMember;
      },
      () => this.#members.get(membership),
      `this membership was not seen in the last ${maxKeyAgeMs / 1000} s`,
    );
  }

  async admit(payer: Payer, farMicrodollars = Number.POSITIVE_INFINITY): Promise<Admission> {
    const entry = this.#entryOf(payer);
    const cached = this.#admissionOf(entry);
    if (cached !== null && this.#isFresh(cached)) return cached;
    if (cached !== null && this.#isFar(cached, farMicrodollars)) {
      this.#lookUpSoon(payer, entry);
      return cached;
    }
    return this.#lookUp(payer, entry);
  }

  /** Not now, when the database has the intent to write. Should it fail, a later request looks for itself. */
  #lookUpSoon(payer: Payer, entry: PayerEntry): void {
    if (entry.isDue) return;
    entry.isDue = true;
    setTimeout(() => {
      entry.isDue = false;
      this.#lookUp(payer, entry).catch(() => {});
    }, LOOK_BESIDE_MS).unref();
  }

  #lookUp(payer: Payer, entry: PayerEntry): Promise<Admission> {
    const { maxBalanceAgeMs } = this.#options;
    return this.#withFallback(
      async () => {
        entry.reading ??= this.#read(payer, entry).finally(() => {
          entry.reading = null;
        });
        await entry.reading;
        return this.#admissionOf(entry) as Admission;
      },
      () => {
        const old = this.#admissionOf(entry);
        return old !== null && old.ageMs <= maxBalanceAgeMs ? old : undefined;
      },
      `this balance was not read in the last ${maxBalanceAgeMs / 1000} s`,
    );
  }

  /** Usage became durable: off the cached balance at once. */
  noteSpent(payer: Payer, costMicrodollars: number, where: 'database' | 'journal'): void {
    const entry = this.#entryOf(payer);
    if (where === 'database') entry.spent += costMicrodollars;
    else entry.journaled += costMicrodollars;
  }

  /** Usage that was noted in the journal is in the database now. */
  noteDrained(payer: Payer, costMicrodollars: number): void {
    const entry = this.#entryOf(payer);
    entry.journaled -= costMicrodollars;
    entry.spent += costMicrodollars;
  }

  /**
   * A look-up; when the database is away, what the cache has.
   * @throws LedgerError `unavailable`, saying what was not known and why
   */
  async #withFallback<T>(
    lookup: () => Promise<T>,
    cached: () => T | undefined,
    problem: string,
  ): Promise<T> {
    try {
      return await this.#options.gate.runOnLedger(lookup);
    } catch (error) {
      const ledgerError = toLedgerError(error);
      if (ledgerError.code !== 'unavailable') throw ledgerError;
      const known = cached();
      if (known !== undefined) return known;
      throw new LedgerError('unavailable', `the database is away, and ${problem}`, {
        cause: error,
      });
    }
  }

  #isFar({ remainingMicrodollars, ageMs }: Admission, farMicrodollars: number): boolean {
    return remainingMicrodollars > farMicrodollars && ageMs < this.#options.farBalanceFreshMs;
  }

  #isFresh({ remainingMicrodollars, ageMs }: Admission): boolean {
    const limit = remainingMicrodollars > 0 ? this.#options.balanceFreshMs : REFUSAL_FRESH_MS;
    return ageMs < limit;
  }

  #admissionOf({ balance, spent, journaled }: PayerEntry): Admission | null {
    if (balance === null) return null;
    return {
      remainingMicrodollars:
        balance.remainingMicrodollars - (spent - balance.spentBefore) - journaled,
      hasBudgets: balance.hasBudgets,
      ageMs: this.#options.clock() - balance.readAtMs,
    };
  }

  /** What is spent while the read is under way may or may not be in it: counted twice at worst. */
  async #read(payer: Payer, entry: PayerEntry): Promise<Balance> {
    const { ledger, preparedStatements, clock } = this.#options;
    const spentBefore = entry.spent;
    const readAtMs = clock();
    const remaining = await ledger.at(payer, ({ pool }) =>
      readRemaining(pool, payer, preparedStatements),
    );
    entry.balance = { ...remaining, readAtMs, spentBefore };
    return entry.balance;
  }

  #entryOf(payer: Payer): PayerEntry {
    const key = payerKey(payer);
    const entry = this.#payers.get(key) ?? {
      balance: null,
      spent: 0,
      journaled: 0,
      reading: null,
      isDue: false,
    };
    this.#payers.set(key, entry, this.#options.maxBalanceAgeMs * 2);
    return entry;
  }
}

/** A scan, so only for an entry that is there: guessed keys cost nothing. */
function forget<Value>(cache: TtlCache<Value>, key: string): void {
  if (cache.get(key) !== undefined) cache.deleteWhere((_, known) => known === key);
}

/** By the index of the budgets in force: a payer without any costs one probe. */
const hasBudgets = (scope: 'user' | 'organization', payer: string) => `exists (
         select
         from budgets as g
         where g.payer_scope = '${scope}'
           and g.payer_id = ${payer}
           and g.removed_at is null
           and g.is_hard
           and not g.is_balance
       ) as has_budgets`;
const USER_REMAINING = `/* gateway.userRemaining */
       select u.is_elsewhere, u.total_microdollars_acquired - b.microdollars_used as remaining,
       ${hasBudgets('user', '$1::text')}
       from kilocode_users as u
       join kilocode_user_balances as b on b.kilo_user_id = u.id
       where u.id = $1::text`;
const ORGANIZATION_REMAINING = `/* gateway.organizationRemaining */
       select o.is_elsewhere, o.total_microdollars_acquired - b.microdollars_used as remaining,
       ${hasBudgets('organization', '$1::uuid::text')}
       from organizations as o
       join organization_balances as b on b.organization_id = o.id
       where o.id = $1::uuid`;

/**
 * Acquired - used, exact in one snapshot (I5). Named: the view takes milliseconds to plan, and the
 * first byte waits for it.
 * @throws LedgerError `unknown_user`, ...
 */
async function readRemaining(
  pool: Pool,
  payer: Payer,
  isNamed: boolean,
): Promise<Pick<Balance, 'remainingMicrodollars' | 'hasBudgets'>> {
  const isUser = payer.organization_id === null;
  const [row] = await queryOnPool(
    pool,
    isNamed,
  )<{ is_elsewhere: boolean; remaining: string; has_budgets: boolean }>({
    name: isUser ? 'microdollar_user_remaining' : 'microdollar_organization_remaining',
    text: isUser ? USER_REMAINING : ORGANIZATION_REMAINING,
    values: [isUser ? payer.kilo_user_id : payer.organization_id],
  });
  if (row?.is_elsewhere) throw elsewhere(isUser ? 'user' : 'organization');
  if (row !== undefined) {
    return { remainingMicrodollars: Number(row.remaining), hasBudgets: row.has_budgets };
  }
  throw isUser
    ? new LedgerError('unknown_user', 'kilo_user_id names no user')
    : new LedgerError('unknown_organization', 'organization_id names no organization');
}
