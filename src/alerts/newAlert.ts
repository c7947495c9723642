import type pg from 'pg';
import { invalidField } from '../accounts/fields.js';
import { type BudgetPayer, findBudget, readPayer } from '../budgets/budgets.js';
import { checkPayer, readLimit, readOneOf } from '../budgets/newBudget.js';
import { ALERT_KINDS, type AlertKind } from '../schema/alerts.js';

/** What is to be watched. A payer is named by its user or organization, or by a budget of it. */
export interface NewAlert {
  kind: string;
  /** Of kind `budget`. */
  budget_id?: string | null | undefined;
  kilo_user_id?: string | null | undefined;
  organization_id?: string | null | undefined;
  /**
   * Whole percent: of a budget's limit, 1 to 1,000, default 50, 80 and 100; of an hour's usual spend,
   * 101 to 100,000, default 300. Up to ten.
   */
  thresholds_percent?: readonly number[] | null | undefined;
  /** Of kind `balance`: told when less is left. USD, above 0. */
  below_usd?: string | number | null | undefined;
  /** Of kind `spend`: an hour with less is never told. USD, default 1. */
  floor_usd?: string | number | null | undefined;
  created_by?: string | null | undefined;
}

export interface ValidAlert {
  kind: AlertKind;
  payer: BudgetPayer;
  budgetId: string | null;
  thresholds: readonly number[];
  floorMicrodollars: number;
  createdBy: string | null;
}

const PERCENT = {
  budget: { least: 1, most: 1_000, default: [50, 80, 100] },
  spend: { least: 101, most: 100_000, default: [300] },
} as const;
const MAX_THRESHOLDS = 10;
const DEFAULT_FLOOR_USD = 1;

/** Which fields a kind has beside its payer. */
const FIELDS: Readonly<Record<AlertKind, readonly (keyof NewAlert)[]>> = {
  budget: ['budget_id', 'thresholds_percent'],
  balance: ['kilo_user_id', 'organization_id', 'below_usd'],
  spend: ['kilo_user_id', 'organization_id', 'thresholds_percent', 'floor_usd'],
};

/** @throws LedgerError as `setAlert` */
export async function readNewAlert(pool: pg.Pool, alert: NewAlert): Promise<ValidAlert> {
  const kind = readOneOf('kind', alert.kind, ALERT_KINDS);
  checkFields(kind, alert);
  const common = { kind, createdBy: alert.created_by ?? null };
  if (kind === 'budget') {
    if ((alert.budget_id ?? null) === null) throw invalidField('budget_id', 'names the budget');
    const { scope, id } = await findBudget(pool, alert.budget_id as string, 'budget_id');
    return {
      ...common,
      payer: { scope, id },
      budgetId: (alert.budget_id as string).toLowerCase(),
      thresholds: readPercents(kind, alert.thresholds_percent),
      floorMicrodollars: 0,
    };
  }
  const payer = readPayer(alert.kilo_user_id, alert.organization_id);
  const [user, organization] = payer.scope === 'user' ? [payer.id, null] : [null, payer.id];
  await checkPayer(pool, user, organization, {});
  const isBalance = kind === 'balance';
  return {
    ...common,
    payer,
    budgetId: null,
    thresholds: isBalance
      ? [readBelow(alert.below_usd)]
      : readPercents(kind, alert.thresholds_percent),
    floorMicrodollars: isBalance ? 0 : readLimit('floor_usd', alert.floor_usd ?? DEFAULT_FLOOR_USD),
  };
}

/** A field of another kind is a mistake, not something to pass over. */
function checkFields(kind: AlertKind, alert: NewAlert): void {
  const known: readonly string[] = ['kind', 'created_by', ...FIELDS[kind]];
  for (const [field, value] of Object.entries(alert)) {
    if (value === undefined || value === null || known.includes(field)) continue;
    throw invalidField(
      field,
      `is not of an alert of kind ${kind}; it has ${FIELDS[kind].join(', ')}`,
    );
  }
}

function readPercents(
  kind: 'budget' | 'spend',
  given: readonly number[] | null | undefined,
): readonly number[] {
  const { least, most, default: otherwise } = PERCENT[kind];
  if (given === undefined || given === null) return otherwise;
  const isRight =
    Array.isArray(given) &&
    given.length > 0 &&
    given.length <= MAX_THRESHOLDS &&
    given.every((each) => Number.isSafeInteger(each) && each >= least && each <= most);
  if (!isRight) {
    throw invalidField(
      'thresholds_percent',
      `must be up to ${MAX_THRESHOLDS} whole numbers from ${least} to ${most}`,
    );
  }
  return [...new Set(given)].sort((a, b) => a - b);
}

function readBelow(usd: string | number | null | undefined): number {
  if (usd === undefined || usd === null) throw invalidField('below_usd', 'says how little is low');
  const below = readLimit('below_usd', usd);
  if (below === 0) throw invalidField('below_usd', 'must be above 0');
  return below;
}
