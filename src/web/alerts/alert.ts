import { formatAmount } from '../amounts.js';
import type { Api, Outputs } from '../api.js';

export type Alert = Outputs['alerts']['list']['alerts'][number];
export type Webhook = Outputs['alerts']['list']['webhooks'][number];
export type Delivery = Outputs['alerts']['deliveries']['deliveries'][number];
export type NewAlertInput = Parameters<Api['alerts']['set']['mutate']>[0];
export type Kind = Alert['kind'];

/** Whose alerts; neither: everybody's. */
export interface Payer {
  kilo_user_id?: string;
  organization_id?: string;
}

export const KINDS: readonly { id: Kind; text: string }[] = [
  { id: 'budget', text: 'A share of a budget is spent' },
  { id: 'balance', text: 'The balance is low' },
  { id: 'spend', text: 'An hour is not as usual' },
];

/** What is offered before anything is typed: as the server has it where nothing is sent. */
export const THRESHOLDS: Readonly<Record<Kind, string>> = {
  budget: '50, 80, 100',
  balance: '',
  spend: '300',
};

/** "50, 80 100%" to numbers; what is none is left to the server to refuse. */
export function readPercents(text: string): number[] {
  return text
    .split(/[\s,;]+/)
    .map((each) => each.replace(/%$/, ''))
    .filter((each) => each !== '')
    .map(Number)
    .map((each) => (Number.isFinite(each) ? each : -1));
}

/** When it tells, in words. */
export function describeAlert(
  { kind, thresholds_percent, below_microdollars, floor_microdollars, budget_id }: Alert,
  budgetName: (id: string) => string,
): string {
  const percents = (thresholds_percent ?? []).map((each) => `${each}%`).join(', ');
  if (kind === 'budget') return `${budgetName(budget_id ?? '')}: at ${percents}`;
  if (kind === 'balance') return `Balance: below ${formatAmount(below_microdollars ?? 0)}`;
  return `An hour: at ${percents} of the usual, from ${formatAmount(floor_microdollars ?? 0)}`;
}

/** What was told, in words. */
export function describeEvent(event: Delivery, budgetName: (id: string) => string): string {
  const spent = formatAmount(event.spent_microdollars);
  if (event.kind === 'budget') {
    return `${budgetName(event.budget_id ?? '')}: ${event.threshold}%, ${spent} spent`;
  }
  if (event.kind === 'balance') return `Balance below ${formatAmount(event.threshold)}`;
  return `An hour at ${event.threshold}% of the usual: ${spent}`;
}

/** What the last try came to; null before it. */
export function describeTry({ last_status, last_error, attempts }: Delivery): string | null {
  if (attempts === 0) return null;
  return last_status === null ? (last_error ?? 'no answer') : `HTTP ${last_status}`;
}

/** Of a delivery, or of an event that no webhook was there for. */
export const STATES: Readonly<
  Record<NonNullable<Delivery['state']>, { text: string; tone: string }>
> = {
  pending: { text: 'on its way', tone: 'warning' },
  delivered: { text: 'delivered', tone: 'ok' },
  dead: { text: 'given up', tone: 'danger' },
};
