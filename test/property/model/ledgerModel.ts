/**
 * What a ledger must report, kept in memory: usage, Exa and credits of the payers of one program.
 * Nothing here knows of rollup, marks or folds: reports follow from the sources alone.
 */
export interface ModelEvent {
  id: string;
  user: number;
  /** Paid by the program's organization. */
  isOrganization: boolean;
  cost: number;
  /** As the caller gave it; null = absent. */
  givenAt: string | null;
  /** As the ledger answered it. */
  createdAt: string;
  /** In this open transaction; null once committed. */
  session: number | null;
  /** Savepoints of that transaction when it was written. */
  savepoints: number;
  model: string | null;
}

export interface ModelExa {
  id: string;
  user: number;
  isOrganization: boolean;
  cost: number;
  path: string;
  createdAt: string;
}

export interface ModelSession {
  isOpen: boolean;
  holdsLocks: boolean;
  savepoints: number;
}

export const CLOSED: Readonly<ModelSession> = { isOpen: false, holdsLocks: false, savepoints: 0 };

export interface LedgerModel {
  readonly users: number;
  readonly exaAllowance: number;
  /** Used before the first row of the log, microdollars, per payer as `credits`. */
  readonly opening: ReadonlyMap<string, bigint>;
  events: ModelEvent[];
  exa: ModelExa[];
  /** Microdollars per payer: `0`, `1`, ... for users, `organization`. */
  credits: Map<string, number>;
  deleted: Set<number>;
  sessions: ModelSession[];
  /** Makes ids. */
  nextId: number;
}

export type Payer = number | 'organization';

export function newLedgerModel(
  users: number,
  sessions: number,
  exaAllowance: number,
  opening: ReadonlyMap<string, bigint>,
): LedgerModel {
  return {
    users,
    exaAllowance,
    opening,
    events: [],
    exa: [],
    credits: new Map(),
    deleted: new Set(),
    sessions: Array.from({ length: sessions }, () => ({ ...CLOSED })),
    nextId: 0,
  };
}

export const payerOf = (event: { user: number; isOrganization: boolean }): Payer =>
  event.isOrganization ? 'organization' : event.user;

export const committed = (model: LedgerModel): ModelEvent[] =>
  model.events.filter((event) => event.session === null);

export const hasOpenSession = (model: LedgerModel): boolean =>
  model.sessions.some((session) => session.isOpen);

export const areLocksHeld = (model: LedgerModel): boolean =>
  model.sessions.some((session) => session.isOpen && session.holdsLocks);

/** Microdollars used (I5): usage and Exa charges; with `session`, as its transaction sees it. */
export function balanceOf(model: LedgerModel, payer: Payer, session: number | null = null): bigint {
  const usage = model.events
    .filter((event) => payerOf(event) === payer)
    .filter((event) => event.session === null || event.session === session)
    .reduce((sum, event) => sum + event.cost, 0);
  const opening = model.opening.get(String(payer)) ?? 0n;
  return opening + BigInt(usage + exaCharged(model, payer));
}

/** As the library tells an amount: a number up to 2^53, a bigint beyond. */
export function asAnswer(amount: bigint): number | bigint {
  const isSafe = amount < 2n ** 53n && amount > -(2n ** 53n);
  return isSafe ? Number(amount) : amount;
}

/** Exa's counter is per user and UTC month in each scope; what exceeds the allowance is charged. */
function exaCharged(model: LedgerModel, payer: Payer): number {
  const totals = new Map<string, number>();
  for (const usage of model.exa) {
    if (payerOf(usage) !== payer) continue;
    const key = `${usage.user} ${usage.createdAt.slice(0, 7)}`;
    totals.set(key, (totals.get(key) ?? 0) + usage.cost);
  }
  return [...totals.values()].reduce(
    (sum, total) => sum + Math.max(0, total - model.exaAllowance),
    0,
  );
}

/** Totals by UTC day in one scope, days without a total left out (I2, I7, I8). */
export function dailyTotals(
  model: LedgerModel,
  user: number,
  isOrganization: boolean,
): Map<string, number> {
  const totals = new Map<string, number>();
  for (const event of committed(model)) {
    if (event.user !== user || event.isOrganization !== isOrganization) continue;
    const day = event.createdAt.slice(0, 10);
    totals.set(day, (totals.get(day) ?? 0) + event.cost);
  }
  for (const [day, total] of totals) if (total === 0) totals.delete(day);
  return new Map([...totals].sort());
}
