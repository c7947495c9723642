import { formatUsd } from '../../money.js';
import { formatAmount, formatCount } from '../amounts.js';
import type { Api, Outputs } from '../api.js';

export type Budget = Outputs['budgets']['list']['budgets'][number];
export type NewBudgetInput = Parameters<Api['budgets']['set']['mutate']>[0];
export type BudgetChangeInput = Parameters<Api['budgets']['change']['mutate']>[0];
export type Setter = Budget['set_by'];
export type Window = Budget['window'];

export const WINDOWS: readonly { id: Window; text: string }[] = [
  { id: 'day', text: 'Day' },
  { id: 'week', text: 'Week, from Monday' },
  { id: 'month', text: 'Month' },
  { id: 'total', text: 'All time' },
];

export type Mode = 'hard' | 'soft';
export const MODES: readonly { id: Mode; text: string }[] = [
  { id: 'hard', text: 'refuse (hard)' },
  { id: 'soft', text: 'only show it (soft)' },
];

export const modeOf = ({ is_hard }: Pick<Budget, 'is_hard'>): Mode => (is_hard ? 'hard' : 'soft');

/** From this part of a limit on it is nearly used up. */
const NEARLY = 0.8;

/** Parts of a bar, 0 to 1, in this order; they add up to 1. `limit`: where in the bar it lies. */
export interface Use {
  used: number;
  /** Used beyond the limit. */
  over: number;
  held: number;
  left: number;
  limit: number;
  /** Of the limit, whole percent; null of a limit of nothing. */
  percent: { used: number; held: number } | null;
  level: 'fine' | 'near' | 'reached';
  isOver: boolean;
}

export function useOf(
  budget: Pick<Budget, 'limit_microdollars' | 'spent_microdollars' | 'held_microdollars'>,
): Use {
  const limit = BigInt(budget.limit_microdollars);
  const spent = max(BigInt(budget.spent_microdollars), 0n);
  const held = BigInt(budget.held_microdollars);
  const whole = max(max(limit, spent + held), 1n);
  const part = (amount: bigint) => Number((amount * 1_000_000n) / whole) / 1_000_000;
  const used = part(spent < limit ? spent : limit);
  const over = part(max(spent - limit, 0n));
  const heldPart = part(held);
  const taken = limit === 0n ? 1 : Number(((spent + held) * 1_000n) / limit) / 1_000;
  return {
    used,
    over,
    held: heldPart,
    left: Math.max(0, 1 - used - over - heldPart),
    limit: part(limit),
    percent:
      limit === 0n
        ? null
        : { used: Number((spent * 100n) / limit), held: Number((held * 100n) / limit) },
    level: taken >= 1 ? 'reached' : taken >= NEARLY ? 'near' : 'fine',
    isOver: spent > limit,
  };
}

/** "62% of the limit used, 5% held", "130% of the limit used: over" */
export function describeUse(budget: Parameters<typeof useOf>[0]): string {
  const { percent, isOver } = useOf(budget);
  if (percent === null) {
    return isOver ? 'nothing may be spent, and something was' : 'nothing may be spent';
  }
  const used = `${formatCount(percent.used)}% of the limit used`;
  return isOver ? `${used}: over` : `${used}, ${formatCount(percent.held)}% held`;
}

/** How those are called whom budgets are about. */
export interface BudgetNames {
  key(id: string): string;
  /** Of the organization that pays. */
  organization: string | null;
  /** Who looks at them, where it is their own. */
  self: string | null;
}

/** What it limits, in words. */
export function subjectOf(
  budget: Budget,
  names: BudgetNames,
): { what: string; name: string | null } {
  const { scope } = budget;
  if (scope === 'key') return { what: 'Key', name: names.key(budget.api_key_id ?? '') };
  if (scope === 'project') return { what: 'Project', name: budget.project_id };
  if (scope === 'organization') {
    return { what: 'Organization', name: names.organization ?? budget.organization_id };
  }
  if (budget.kilo_user_id === names.self) {
    return { what: scope === 'user' ? 'You' : 'You, as a member', name: null };
  }
  return { what: scope === 'user' ? 'User' : 'Member', name: budget.kilo_user_id };
}

const SCOPE_ORDER: readonly Budget['scope'][] = [
  'organization',
  'user',
  'member',
  'key',
  'project',
];
const WINDOW_ORDER = WINDOWS.map(({ id }) => id);

/** From the whole to its parts; what is of the same thing stands together, the shortest window first. */
export function inOrder(budgets: readonly Budget[]): Budget[] {
  const subject = (budget: Budget) =>
    budget.api_key_id ?? budget.project_id ?? budget.kilo_user_id ?? '';
  return budgets.toSorted(
    (a, b) =>
      SCOPE_ORDER.indexOf(a.scope) - SCOPE_ORDER.indexOf(b.scope) ||
      subject(a).localeCompare(subject(b)) ||
      WINDOW_ORDER.indexOf(a.window) - WINDOW_ORDER.indexOf(b.window) ||
      a.id.localeCompare(b.id),
  );
}

/** As in "$20.00 a month". */
export const PER: Readonly<Record<Window, string>> = {
  day: 'a day',
  week: 'a week',
  month: 'a month',
  total: 'in all',
};

/** "Key laptop, $20.00 a month" */
export function nameOfBudget(budget: Budget, names: BudgetNames): string {
  const { what, name } = subjectOf(budget, names);
  const limit = formatAmount(budget.limit_microdollars);
  return `${what}${name === null ? '' : ` ${name}`}, ${limit} ${PER[budget.window]}`;
}

/** Without the raise that is in force. */
export function baseLimitOf({ limit_microdollars, raise_microdollars }: Budget): bigint {
  return BigInt(limit_microdollars) - BigInt(raise_microdollars ?? 0);
}

export function isRaised({ raise_microdollars, raise_until }: Budget): boolean {
  return raise_until !== null && BigInt(raise_microdollars ?? 0) > 0n;
}

/** For a field: 12.50, 0.000001. */
export function editableUsd(amountMicrodollars: bigint): string {
  const [whole = '0', fraction = ''] = formatUsd(amountMicrodollars).split('.');
  const cents = fraction.replace(/0+$/, '').padEnd(2, '0');
  return cents === '00' ? whole : `${whole}.${cents}`;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
